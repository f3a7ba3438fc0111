"""Renders templates of Ollama with Go's own text/template, as Ollama does."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PROGRAM = """\
package main

import (
	"bytes"
	"encoding/json"
	"os"
	"text/template"
)

type Case struct {
	Template string
	Data     map[string]any
}

// The JSON of Jinja's tojson: a space after each comma and colon.
func spaced(value any) string {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.Encode(value)
	var text bytes.Buffer
	quoted := false
	line := bytes.TrimSpace(out.Bytes())
	for index, letter := range line {
		text.WriteByte(letter)
		if letter == '"' && (index == 0 || line[index-1] != '\\\\') {
			quoted = !quoted
		}
		if !quoted && (letter == ',' || letter == ':') {
			text.WriteByte(' ')
		}
	}
	return text.String()
}

func main() {
	var cases []Case
	json.NewDecoder(os.Stdin).Decode(&cases)
	rendered := []string{}
	for _, one := range cases {
		var out bytes.Buffer
		parsed, err := template.New("").Funcs(template.FuncMap{"json": spaced}).Parse(one.Template)
		if err == nil {
			err = parsed.Execute(&out, one.Data)
		}
		if err != nil {
			out.WriteString("error: " + err.Error())
		}
		rendered = append(rendered, out.String())
	}
	json.NewEncoder(os.Stdout).Encode(rendered)
}
"""


def render(cases: Sequence[dict[str, Any]], folder: Path) -> list[str]:
    """Render each {"Template", "Data"}."""
    (folder / "main.go").write_text(PROGRAM, encoding="utf-8")
    ended = subprocess.run(
        ["go", "run", "main.go"],
        cwd=folder,
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        env={**os.environ, "GOCACHE": str(folder / "cache")},
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)
