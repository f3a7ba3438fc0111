# shellcheck shell=bash
# A shell without a login may not have the `module` command yet.
for file in /etc/profile.d/{modules,lmod,z00_lmod}.sh; do
  # shellcheck source=/dev/null
  if ! command -v module > /dev/null && [[ -r $file ]]; then source "$file"; fi
done
