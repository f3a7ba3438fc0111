"""TensorBoard's HParams page: read back with TensorBoard's own code."""

import pytest

from hatrain.report import hparams
from tests.plans import a_job
from tests.report.runs import a_run, begin, end, log

pytest.importorskip("tensorboard")


def session_groups(folder):
    """What the page asks its server for: the settings and metrics of each run."""
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(folder))
    context = backend_context.Context(TBContext(data_provider=provider, logdir=str(folder)))
    request_context = RequestContext()
    metadata = context.hparams_metadata(request_context, "")
    experiment = context.experiment_from_metadata(
        request_context, "", True, metadata, context.hparams_from_data_provider(request_context, "", 100)
    )
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0,
        slice_size=10,
        allowed_statuses=[api_pb2.STATUS_SUCCESS],
        col_params=[api_pb2.ColParams(metric=info.name) for info in experiment.metric_infos],
        include_metrics=True,
    )
    handler = list_session_groups.Handler(request_context, context, "", request)
    return experiment, handler.run().session_groups


def test_the_runs_of_a_sweep_stand_there_with_their_settings_and_results(tmp_path):
    for number, rate in enumerate((1e-3, 2e-3)):
        run = a_run(tmp_path, f"rates{number}", method__learning_rate=rate)
        begin(run, 1)
        log(run, range(1, 9), 8)
        end(run, 1)
        run.record("test loss", when="after", loss=1.0 + number)
        run.tensorboard.mkdir()
        hparams.write(run)
    experiment, groups = session_groups(tmp_path / "runs")
    assert "method.learning_rate" in {info.name for info in experiment.hparam_infos}
    rates = sorted(group.hparams["method.learning_rate"].number_value for group in groups)
    assert rates == pytest.approx([1e-3, 2e-3])
    losses = [value.value for group in groups for value in group.metric_values if value.name.tag == "result/test_loss"]
    assert sorted(losses) == pytest.approx([1.0, 2.0])


def test_settings_are_plain_values_without_what_is_not_set():
    found = hparams.settings(a_job(method__lora={"modules": ["mlp", "attention"]}))
    assert found["method.lora.modules"] == "['mlp', 'attention']"
    assert found["method.lora.merge"] is False
    assert "method.max_steps" not in found
    assert not any(key.startswith("limits") for key in found)
    assert {type(value) for value in found.values()} <= {bool, int, float, str}


def test_a_run_that_did_not_log_to_tensorboard_gets_none(tmp_path):
    run = a_run(tmp_path)
    assert not hparams.is_wanted(run)
    run.tensorboard.mkdir()
    assert hparams.is_wanted(run)
