#!/bin/sh
# Wraps gcc and g++ while DeepSpeed's CPU ops are built. DeepSpeed compiles for the CPU of the build machine
# (-march=native, AVX-512 if available); the image must run on any CPU of level $CPU_ARCH.
set -eu

if [ "$(uname -m)" = x86_64 ]; then
  for argument; do
    shift
    case $argument in
      -march=native) argument=-march=$CPU_ARCH ;;
      -D__AVX512__) argument=-D__AVX256__ ;;
    esac
    set -- "$@" "$argument"
  done
fi
exec "/usr/bin/$(basename "$0")" "$@"
