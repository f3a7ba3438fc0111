"""The export of a run, after its evaluation: `python -m hatrain.export.run RUN`, with $HATRAIN_ATTEMPT. It writes
export/, the folder of GGUF files; nothing that goes wrong here trains again."""

import os
import sys
import traceback
from pathlib import Path

from hatrain.contract.inputs import resolve
from hatrain.contract.plan import Plan
from hatrain.contract.run import Attempt, Exit, RunDirectory
from hatrain.errors import BadInput
from hatrain.model.quiet import quiet
from hatrain.runtime import stop


def main(folder: str, number: str) -> Exit:
    """Export the run and return its exit code; the reason is in `rank-export.json`."""
    run = RunDirectory(Path(folder))
    attempt = Attempt(run.attempts / number)
    stop.on_signals(attempt.request_stop)
    code, reason = Exit.FAULT, "ended unexpectedly"
    try:
        quiet()
        code, reason = export_run(run.plan(), run, attempt)
    except BadInput as error:
        code, reason = Exit.FATAL, "\n".join(error.problems)
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"
    finally:
        attempt.report_exit("export", code, reason)
    return code


def export_run(plan: Plan, run: RunDirectory, attempt: Attempt) -> tuple[Exit, str]:
    """Write the folder export/ of a trained run. Raises BadInput for what no retry can fix."""
    from hatrain.data.rows import read_rows
    from hatrain.evaluate.sources import Source
    from hatrain.export.export import Exporter, Stopped
    from hatrain.export.table import rows_of

    os.chdir(plan.paths.workdir)
    job = plan.job
    assert job.export is not None
    has_requests = job.data.test and job.method.kind != "dpo"
    rows = list(read_rows(resolve(job.data.test or "", plan.paths.workdir))) if has_requests else []
    exporter = Exporter(
        Source(run.name, str(run.result(job)), run),
        job.export,
        run.export,
        rows,
        ctx_size=job.method.ctx_size,
        say=lambda line: print(line, flush=True),
        should_stop=lambda: attempt.stop() is not None,
    )
    try:
        report = exporter.run()
    except Stopped:
        request = attempt.stop()
        code = Exit.REQUEUE if request is None or request.requeue else Exit.STOPPED
        return code, "stopped while exporting"
    for cells in rows_of(report):
        print("  ".join(cells), flush=True)
    if report.not_judged:
        print(f"not judged: {report.not_judged}", flush=True)
    return Exit.FINISHED, "exported"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], os.environ["HATRAIN_ATTEMPT"]))
