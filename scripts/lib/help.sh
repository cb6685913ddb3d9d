# shellcheck shell=bash
# How every script here answers `--help` (or `-h`), its first line of code: `takes='ARGUMENTS' . "$(dirname "$0")/lib/help.sh"`.
# Prints how it is called and the comment that the script begins with, and ends it before it has done anything. `of`, a module
# that the arguments go to, is asked for its own help too, when there is a .venv to ask it with.
case "${1:-}" in
  -h | --help)
    echo "usage: scripts/${0##*/}${takes:+ $takes}"
    sed -n -e '1d' -e '/^#/!q' -e 's/^# \{0,1\}//p' "$0"
    cd "$(dirname "$0")/.."
    if [ -n "${of:-}" ] && [ -x .venv/bin/python ]; then
      echo
      PYTHONDONTWRITEBYTECODE=1 .venv/bin/python -m "$of" --help
    fi
    exit 0
    ;;
esac
