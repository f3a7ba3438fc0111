# shellcheck shell=bash
# What home-1b is started with on the cluster "desk".
export HATRAIN_PYTHON=/opt/hatrain/bin/python
export HATRAIN_NODES=1
export HF_HOME='/scratch/my cache'
