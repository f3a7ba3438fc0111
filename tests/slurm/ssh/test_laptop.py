"""Every verb from a laptop: a real ssh, a real rsync and a real Slurm."""

from tests.slurm.workspace import calls


def test_a_job_runs_on_the_cluster_with_the_files_of_the_laptop(laptop):
    run = laptop.submit()
    assert laptop.hatrain("wait", "kitchen") == "kitchen: finished (0)\n"
    assert (laptop.there.folder / "train.jsonl").read_text() == (laptop.folder / "train.jsonl").read_text()
    assert calls(laptop.there.run()) == ["training finish"]
    assert "training finish in attempt 1" in laptop.hatrain("logs", "kitchen")
    assert laptop.state() == "finished" and run.done.exists()
