"""The key `ssh` of a Slurm cluster file."""

import pytest

from hatrain.contract.cluster import SlurmCluster
from hatrain.contract.load import read_text, validate
from hatrain.errors import BadInput


def read(host: str = "my-hpc", workdir: str = "/scratch/ada", rest: str = "python: /env/bin/python") -> SlurmCluster:
    text = f"kind: slurm\nssh:\n  host: '{host}'\n  workdir: '{workdir}'\n{rest}\n"
    return validate(SlurmCluster, read_text(text, "mine.yaml"))


@pytest.mark.parametrize("host", ["my-hpc", "ada@login1.example.org", "10.0.0.7"])
def test_a_host_is_a_name_of_the_users_configuration(host):
    found = read(host)
    assert found.ssh is not None and found.ssh.host == host


@pytest.mark.parametrize("host", ["-oProxyCommand=x", "a b", "a;b", "ada@", "host:22", "ssh://host", "a@-b"])
def test_a_host_that_ssh_or_rsync_would_take_for_something_else_is_refused(host):
    with pytest.raises(BadInput, match=r"mine.yaml:3: ssh.host: .*USER@HOST"):
        read(host)


@pytest.mark.parametrize("workdir", ["~/hatrain", "$SCRATCH/x/..", "hatrain", "/", "/a/", "/a/../b", "/a\\b"])
def test_a_working_folder_is_a_plain_absolute_path_since_slurm_expands_nothing(workdir):
    with pytest.raises(BadInput, match=r"mine.yaml:4: ssh.workdir: .*begins with /"):
        read(workdir=workdir)


def test_blanks_and_quotes_in_the_working_folder_are_accepted():
    found = read(workdir="/data/ada''s scratch")
    assert found.ssh is not None and found.ssh.workdir == "/data/ada's scratch"


def test_the_interpreter_of_this_machine_is_not_assumed_to_be_on_the_cluster():
    with pytest.raises(BadInput, match="the interpreter of this machine is not on the cluster"):
        read(rest="")
    for rest in ("setup: [source ~/env/bin/activate]", "modules: [hatrain]"):
        read(rest=rest)
