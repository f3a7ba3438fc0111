"""One export, top to bottom: merge, convert, compare, quantise, judge, and the files beside them."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from hatrain.contract.spec import ExportSpec
from hatrain.data.replies import ReplyFinder
from hatrain.data.rows import Row
from hatrain.errors import BadInput
from hatrain.evaluate import evaluate_model
from hatrain.evaluate.gguf import evaluate_gguf
from hatrain.evaluate.requests import read_requests, sample
from hatrain.evaluate.results import Evaluation
from hatrain.evaluate.sources import Source, base_of, load_tokenizer_of
from hatrain.export import client, compare, modelfile
from hatrain.export.convert import convert
from hatrain.export.files import Exported, Figures, Report, check_out, check_space, plain_name, sealed_folder
from hatrain.export.tools import check_tools
from hatrain.export.whole import ADAPTER, whole_folder
from hatrain.llamacpp.model import GgufModel, threads
from hatrain.llamacpp.quantize import quantize
from hatrain.model.base import load_config, load_model
from hatrain.runtime import seal

TEXTS = 200
"""Rows whose tokens are compared."""
SEED = 42
"""Of drawing rows: a later export draws the same ones."""
ANSWERS, LIMIT = 16, 48
"""Prompts whose answers are compared token by token, and tokens of each."""
CONTEXT = 8192
"""Context for Ollama where no run says how long its rows were."""


class Stopped(Exception):
    """The export was asked to stop. Nothing of it is kept."""


class Exporter:
    """Exports one model. `rows` are requests to compare by, of which some are drawn; `ctx_size` is the longest row of
    training, in tokens."""

    def __init__(
        self,
        source: Source,
        wanted: ExportSpec,
        out: Path,
        rows: Sequence[Row],
        *,
        ctx_size: int | None = None,
        say: Callable[[str], None] = lambda line: None,
        should_stop: Callable[[], bool] = lambda: False,
    ):
        self.source, self.wanted, self.out, self.say, self.should_stop = source, wanted, out, say, should_stop
        self.name, self.rows, self.ctx_size = plain_name(name_of(source)), rows, ctx_size
        self.judged_rows = sample(rows, wanted.requests, SEED)
        self.today: date | None = source.today
        self.not_judged = None if wanted.requests else "export.requests is 0"

    def run(self) -> Report:
        """Write the folder `out`, sealed, and return what is in it.

        Raises BadInput for what a user can change, and Stopped. An earlier export stays until this one is whole.
        """
        check_tools()
        check_out(self.out)
        self.tokenizer: Any = load_tokenizer_of(self.source)
        self.finder = ReplyFinder(self.tokenizer, self.today)
        ends = tuple(stop.strip() for stop in self.finder.markers.stops)
        if self.wanted.ollama:
            modelfile.template_of(self.finder)  # refused now, and not after all the work
        self._check_space()
        texts, prompts = self._texts()
        facts = {"gguf": list(self.wanted.gguf), "ollama": self.wanted.ollama, "model": model_digest(self.source)}
        with sealed_folder(self.out, facts) as folder:
            f16 = folder / f"{self.name}.f16.gguf"
            with whole_folder(self.source, folder, self.finder, self.tokenizer) as whole:
                self.say(f"converting {self.source.name} to f16")
                convert(whole, f16, self.source.location)
                self._stop_point()
                reference, equal = self._compare(f16, whole, texts, prompts)
            files = []
            for kind in self.wanted.gguf:
                self._stop_point()
                file = folder / f"{self.name}.{kind}.gguf"
                if kind != "f16":
                    self.say(f"quantising to {kind}")
                    quantize(f16, file, kind, threads=threads())
                files.append(Exported(kind, file.name, file.stat().st_size, self._judge(file, reference)))
            if "f16" not in self.wanted.gguf:
                f16.unlink()
            report = Report(
                model=self.name,
                reference=Figures(**compare.figures(reference, reference)) if reference else None,
                files=tuple(files),
                texts=len(texts),
                equal_answers=equal,
                compared_answers=len(prompts),
                ends=ends,
                not_judged=self.not_judged,
            )
            context = self._write_beside(folder, report)
        # Not sealed: a run's card takes its place.
        text = client.settings(self.name, report, self._client(), context, self.wanted.ollama)
        seal.write_text(self.out / "README.md", text)
        return report

    # --- steps ---

    def _stop_point(self) -> None:
        if self.should_stop():
            raise Stopped

    def _check_space(self) -> None:
        with torch.device("meta"):
            config = load_config(
                base_of(self.source)[0] if self._is_adapter else self.source.location,
                trust_remote_code=self.source.trust_remote_code,
            )
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=self.source.trust_remote_code)
        parameters = sum(weights.numel() for weights in model.parameters())
        # An adapter is merged into fp32 weights, which lie there while they are converted.
        check_space(self.out, parameters * 2, self.wanted.gguf, parameters * 4 if self._is_adapter else 0)

    @property
    def _is_adapter(self) -> bool:
        return (Path(self.source.location) / ADAPTER).is_file()

    def _texts(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Return (where, text) of what training, or a user, would have the model read, and prompts to answer."""
        with suppress(BadInput):
            if requests := read_requests(sample(self.rows, TEXTS, SEED), self.finder):
                texts = [(request.where, request.prompt + request.reply) for request in requests]
                return texts, [(request.where, request.prompt) for request in requests[:ANSWERS]]
        sentences = [("a sentence", prompt) for prompt in compare.sample_prompts(self.finder)]
        return sentences, sentences

    def _compare(
        self, f16: Path, whole: Path, texts: Sequence[tuple[str, str]], prompts: Sequence[tuple[str, str]]
    ) -> tuple[Evaluation | None, int]:
        """Compare the f16 file with the model. Returns the model's evaluation, None without requests to judge, and how
        many answers of the file are the model's."""
        with GgufModel(f16) as file:
            compare.check_tokens(texts, self.tokenizer, file)
            self.say(f"{len(texts)} texts have the same tokens")
            self._stop_point()
            model = self._load(whole)
            equal = compare.check_answers(prompts, file, model, self.tokenizer, LIMIT)
            ties = "" if equal == len(prompts) else "; the others differ at a tie"
            self.say(f"{equal} of {len(prompts)} answers of the f16 file are the model's{ties}")
        return self._judge_model(model), equal

    def _load(self, folder: Path) -> Any:
        """Load the model in fp32, which both sides are compared in; on the GPU if it has room for that."""
        model: Any = load_model(str(folder), trust_remote_code=self.source.trust_remote_code, dtype=torch.float32)
        needed = sum(weights.numel() * 4 for weights in model.parameters())
        roomy = torch.cuda.is_available() and torch.cuda.mem_get_info()[0] > needed * 1.3
        return model.to("cuda" if roomy else "cpu").eval()

    def _judge_model(self, model: Any) -> Evaluation | None:
        """Evaluate the model itself; None, with the reason kept, where the rows are no requests."""
        if self.not_judged:
            return None
        if not self.rows:
            self.not_judged = "there are no requests: give some with --dataset FILE"
            return None
        try:
            self.say(f"answering the requests of {len(self.judged_rows)} rows with the model")
            evaluation = evaluate_model(
                model, self.tokenizer, self.judged_rows, should_stop=self.should_stop, today=self.today
            )
        except BadInput as bad:
            self.not_judged = bad.problems[0]
            return None
        if not evaluation.complete:
            raise Stopped
        return evaluation

    def _judge(self, path: Path, reference: Evaluation | None) -> Figures | None:
        if reference is None:
            return None
        self.say(f"answering with {path.name}")
        with GgufModel(path) as file:
            evaluation = evaluate_gguf(file, self.judged_rows, should_stop=self.should_stop, today=self.today)
        if not evaluation.complete:
            raise Stopped
        return Figures(**compare.figures(evaluation, reference))

    def _client(self) -> str | None:
        """The client that the rows are for."""
        return next((str(row.meta["client"]) for row in self.rows if "client" in row.meta), None)

    def _write_beside(self, folder: Path, report: Report) -> int:
        """Write export.json and the Modelfile. Returns the context that the model is used with, in tokens."""
        seal.write_json(folder / "export.json", report.to_dict())
        best = report.recommended
        with GgufModel(folder / best.name) as file:
            limit = min(self.ctx_size or CONTEXT, file.context_length)
            if self.wanted.ollama:
                bos = self.tokenizer.bos_token if file.vocabulary.adds_bos else None
                stops = [file.vocabulary.tokens[token] for token in file.vocabulary.ends]
                text = modelfile.write(best.name, self.finder, bos, stops, limit)
                seal.write_text(folder / "Modelfile", text)
        return limit


def name_of(source: Source) -> str:
    """Return what files are called: a run's result is called as the run, not `model`."""
    of_run = source.run is not None and Path(source.location).resolve().parent == source.run.folder.resolve()
    return source.run.name if of_run and source.run else source.name


def model_digest(source: Source) -> str | None:
    """Return what tells one sealed model from another; None for a model that hatrain did not seal."""
    manifest = Path(source.location) / seal.MANIFEST
    return seal.digest(manifest) if manifest.is_file() else None
