#!/bin/sh
# Stands in for gcc and g++ while DeepSpeed's processor ops are built. DeepSpeed compiles them for the very processor of
# the machine that builds (-march=native, AVX-512 where it has it); an image has to run on others. $CPU_ARCH says on which.
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
