// Draws the charts of a report with plotly, in the colours of light or dark. The library is in the page, compressed.
"use strict";

const COLORS = {
  // Distinguishable with any colour vision, and with at least 3:1 contrast on the background of each theme.
  light: ["#0063a0", "#b84a00", "#00795a", "#a03a7a", "#7a6200", "#555555"],
  dark: ["#5ab4f0", "#f09a3c", "#2fc79c", "#e793c5", "#e8d94a", "#c4c4c4"],
};
const DARK = window.matchMedia("(prefers-color-scheme: dark)");
const PHONE = window.matchMedia("(max-width: 640px)");

async function library() {
  const bytes = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
  const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(plain).text();
  document.head.append(script);
}

function traces(chart, colors, ink) {
  return chart.traces.map((trace, number) => {
    const color = colors[trace.color];
    if (chart.kind === "bars") {
      return {
        type: "bar", orientation: "h", name: trace.name, x: trace.x, y: trace.y, customdata: trace.counts,
        marker: { color },
        error_x: {
          type: "data", symmetric: false, array: trace.high, arrayminus: trace.low, thickness: 1, width: 3, color: ink,
        },
        hovertemplate: "%{y}: %{x:.1%}<br>%{customdata}<extra>%{fullData.name}</extra>",
      };
    }
    return {
      type: "scatter", name: trace.name, x: trace.x, y: trace.y,
      mode: trace.x.length < 40 ? "lines+markers" : "lines",
      line: { color, dash: trace.dash, width: 2 - 0.5 * (number > 5) }, marker: { color, size: 5 },
      hovertemplate: "step %{x:,}<br>%{y:.4g}<extra>%{fullData.name}</extra>",
    };
  });
}

// Ticks at 1, 2 and 5 times each power of ten: plotly writes powers, or single digits in several sizes.
function logarithmicTicks(chart) {
  const values = chart.traces.flatMap((trace) => trace.y), ticks = [];
  const low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
  const decades = Math.log10(high / low);
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const digit of decades < 3 ? [1, 2, 5] : [1]) {
      ticks.push(Number(`${digit}e${power}`));
    }
  }
  return { type: "log", tickvals: ticks, ticktext: ticks.map(String) };
}

function layout(chart, dark, ink, width) {
  const grid = dark ? "#343a42" : "#e3e6ea";
  const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: grid, automargin: true, fixedrange: true };
  const common = {
    width, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: false,
    font: { family: "system-ui, sans-serif", size: 12, color: ink },
    margin: { l: 8, r: 12, t: 8, b: 8 },
    hoverlabel: { bgcolor: dark ? "#20252b" : "#ffffff", bordercolor: grid, font: { color: ink } },
    legend: { orientation: "h", x: 0, xanchor: "left", y: -0.18, yanchor: "top" },
    showlegend: chart.traces.length > 1,
  };
  const legendRows = chart.traces.length > 1 ? Math.ceil(chart.traces.length / (width > 500 ? 4 : 2)) : 0;
  if (chart.kind === "bars") {
    const rows = chart.traces[0].y.length * chart.traces.length;
    const plot = 26 + rows * 16 + chart.traces[0].y.length * 8;
    return {
      ...common, height: plot + 46 + 22 * legendRows, barmode: "group", bargap: 0.28,
      legend: { ...common.legend, y: -30 / plot, traceorder: "normal" },
      xaxis: { ...axis, range: [0, 1.02], tickformat: ".0%", tickvals: [0, 0.25, 0.5, 0.75, 1] },
      yaxis: { ...axis, autorange: "reversed", gridcolor: "rgba(0,0,0,0)", type: "category", ticklabelstandoff: 6 },
    };
  }
  const height = 250;
  return {
    ...common, height: height + 40 + 20 * legendRows,
    margin: { ...common.margin, t: chart.marks.length ? 20 : 8 },
    legend: { ...common.legend, y: -50 / height },
    xaxis: { ...axis, title: { text: "step", standoff: 6 }, nticks: width < 420 ? 5 : 9, rangemode: "tozero" },
    yaxis: {
      ...axis, title: { text: chart.unit + (chart.log ? " (logarithmic)" : ""), standoff: 8 },
      nticks: 6, exponentformat: "e", minexponent: 5, separatethousands: true,
      ...(chart.log ? logarithmicTicks(chart) : { rangemode: chart.zero ? "tozero" : "normal" }),
    },
    shapes: chart.marks.map(([step]) => ({
      type: "line", x0: step, x1: step, y0: 0, y1: 1, yref: "paper", line: { color: ink, width: 1, dash: "dot" },
    })),
    annotations: chart.marks.map(([step, text]) => ({
      x: step, y: 1, yref: "paper", yanchor: "bottom", xanchor: "left", text, showarrow: false, font: { size: 10 },
    })),
  };
}

function paint(dark, paper) {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  for (const [id, chart] of Object.entries(charts)) {
    const box = document.getElementById(`chart-${id}`);
    const width = paper || box.clientWidth, ink = dark ? "#d6dae0" : "#2b3036";
    const drawn = traces(chart, COLORS[dark ? "dark" : "light"], ink);
    Plotly.react(box, drawn, layout(chart, dark, ink, width), { displayModeBar: false, showTips: false });
  }
}

async function start() {
  if (!window.DecompressionStream) {
    document.body.classList.add("no-charts");
    return;
  }
  await library();
  const screen = () => paint(DARK.matches, 0);
  screen();
  DARK.addEventListener("change", screen);
  let waiting = 0;
  window.addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(screen, 150);
  });
  window.addEventListener("beforeprint", () => paint(false, PHONE.matches ? 340 : 640));
  window.addEventListener("afterprint", screen);
  document.documentElement.dataset.drawn = "yes";
}

start();
