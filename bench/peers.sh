#!/usr/bin/env bash
# Makes the environments of Unsloth, LLaMA-Factory and axolotl for make bench, each with the packages that it asks for. Some 15 GB,
# where the package index has CUDA builds. torchvision and torchaudio are taken out again: they fit no CPU build of torch.
set -euo pipefail
cd "$(dirname "$0")/.."
for peer in unsloth==2026.10.9 llamafactory==0.9.5 axolotl==0.19.0; do
    environment=.venv-peer-${peer%%==*}
    "${PYTHON:-python3}" -m venv "$environment"
    "$environment/bin/pip" install --disable-pip-version-check torch==2.13.0 "$peer"
    "$environment/bin/pip" uninstall --yes torchvision torchaudio
done
