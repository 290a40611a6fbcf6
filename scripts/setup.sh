#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes .venv and installs the project into it, for `make demo`, `make test` and everybody else.
# Safe to run again: it does nothing while pyproject.toml, constraints.txt and this script are unchanged.
set -eu

cd "$(dirname "$0")/.."
venv=.venv
stamp=$venv/.installed

wanted=$(cat pyproject.toml constraints.txt scripts/setup.sh scripts/mend_torchaudio.py | cksum)
# The folder is part of the stamp because an environment does not survive being moved.
wanted="$wanted $(pwd)"
if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

is_new_enough() {
    [ "$("$1" -c 'import sys; print(sys.version_info >= (3, 11))' 2>/dev/null)" = True ]
}

if ! { [ -x "$venv/bin/python" ] && is_new_enough "$venv/bin/python"; }; then
    python=
    # A Python that was named is used or refused, never replaced by another.
    if [ -n "${PYTHON:-}" ] && ! is_new_enough "$PYTHON"; then
        found=$("$PYTHON" --version 2>&1 | head -n 1) || true
        echo "setup: hf-mathrock needs Python 3.11 or newer, and PYTHON=$PYTHON is none: $found" >&2
        exit 1
    fi
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.11 python3.12 python3.13 python3.14; do
        if is_new_enough "$candidate"; then
            python=$candidate
            break
        fi
    done
    if [ -z "$python" ]; then
        found=$(python3 --version 2>/dev/null || echo "no python3")
        echo "setup: hf-mathrock needs Python 3.11 or newer, and there is $found." >&2
        echo "setup: install one, or name it: make demo PYTHON=/path/to/python3.11" >&2
        exit 1
    fi
    echo "setup: making $venv with $("$python" --version)"
    rm -rf "$venv"
    # Debian keeps ensurepip in a package of its own; where it is missing, the pip that is there fills in.
    if ! reason=$("$python" -m venv "$venv" 2>&1); then
        rm -rf "$venv"
        if ! { "$python" -m venv --without-pip "$venv" &&
            "$python" -m pip --python "$venv/bin/python" install --quiet pip; }; then
            rm -rf "$venv"
            printf 'setup: %s can make no environment:\n%s\n' "$python" "$reason" >&2
            exit 1
        fi
    fi
fi

echo "setup: installing into $venv, which takes a few minutes the first time"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
# mirdata asks for the clients of three clouds, which it needs only to fetch corpora; ours lie on the disk.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps mirdata
"$venv/bin/python" scripts/mend_torchaudio.py || echo "setup: torchaudio was left as it is" >&2
printf '%s\n' "$wanted" > "$stamp"
