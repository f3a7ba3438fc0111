"""What TensorBoard's HParams page shows of a finished run: its settings and its results."""

import importlib.util
import time

from hatrain.contract.run import RunDirectory
from hatrain.contract.spec import SWEPT, JobSpec, leaves
from hatrain.report.read import read_run
from hatrain.report.several import results


def settings(job: JobSpec) -> dict[str, bool | int | float | str]:
    """Return a job's settings by their dotted keys. A list is text; what is null is left out."""
    part = job.model_dump(mode="json", include={"seed", *SWEPT})
    found = {key: value for key, value in leaves(part) if value is not None}
    return {key: value if isinstance(value, bool | int | float | str) else str(value) for key, value in found.items()}


def is_wanted(run: RunDirectory) -> bool:
    """Whether a run logged to TensorBoard, and it is installed."""
    return run.tensorboard.is_dir() and importlib.util.find_spec("tensorboard") is not None


def write(run: RunDirectory) -> None:
    """Write settings and results of a run into a new event file beside its others. Raises BadInput for a plan that
    cannot be read, and OSError."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.api_pb2 import Status
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    facts = read_run(run)
    end = HParamsPluginData(session_end_info=SessionEndInfo(status=Status.STATUS_SUCCESS))
    ended = Summary.Value(
        tag=metadata.SESSION_END_INFO_TAG, metadata=metadata.create_summary_metadata(end), tensor=metadata.NULL_TENSOR
    )
    values = {f"result/{name}": value for name, value in results(facts).items() if value is not None}
    scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
    step = facts.metrics[-1]["step"] if facts.metrics else 0
    writer = EventFileWriter(str(run.tensorboard), filename_suffix=".hparams")
    for summary in (hparams_pb(settings(facts.plan.job), trial_id=run.name), Summary(value=[ended, *scalars])):
        writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
    writer.close()
