"""The export of a run, after its evaluation: `python -m hatrain.export.run RUN`, with $HATRAIN_ATTEMPT. It writes
export/, the folder of GGUF files; nothing that goes wrong here trains again."""

import os
import sys

from hatrain.contract.inputs import resolve
from hatrain.contract.plan import Plan
from hatrain.contract.run import Attempt, Exit, RunDirectory
from hatrain.contract.stage import run_stage, stopped
from hatrain.model.quiet import quiet
from hatrain.runtime.waiting import waiting


def main(folder: str, number: str) -> Exit:
    """Export the run and return its exit code; the reason is in `rank-export.json`."""
    return run_stage("export", folder, number, export_run)


def export_run(plan: Plan, run: RunDirectory, attempt: Attempt) -> tuple[Exit, str]:
    """Write the folder export/ of a trained run. Raises BadInput for what no retry can fix."""
    with waiting("loading torch and transformers"):
        quiet()
        from hatrain.contract.sync import PATIENCE_SECONDS, SyncTarget
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
        return stopped(attempt, "exporting")
    for cells in rows_of(report):
        print("  ".join(cells), flush=True)
    if report.not_judged:
        print(f"not judged: {report.not_judged}", flush=True)
    if job.checkpoints.sync_to:
        target = SyncTarget(job.checkpoints.sync_to, run)
        target.folder(run.export)
        target.wait(PATIENCE_SECONDS)
    return Exit.FINISHED, "exported"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], os.environ["HATRAIN_ATTEMPT"]))
