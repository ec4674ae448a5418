#!/bin/sh
# Makes the environment: setup.sh FOLDER [PYTHON], run in the checkout.
# The marker tells a set-up that was interrupted: that one is begun anew. The lock keeps two at once
# from taking each other for it.
set -eu
folder=${1%/}
given=${2:-}
unfinished=$folder/.milr-unfinished
ready=$folder/.milr-ready
lock=$folder.lock
waited=

suits='import sys; assert (3, 11) <= sys.version_info[:2] < (3, 14)'
complete='import ensurepip, venv'
# An upgrade of the system's Python can leave an environment whose packages are of the one before.
alive="$suits
import os, sysconfig; assert os.path.isdir(sysconfig.get_path('purelib'))"

find_python() {
    incomplete=
    # One that was given is a single word, also with a blank in its path.
    [ -n "$given" ] && set -- "$given" || set -- python3 python3.13 python3.12 python3.11
    for candidate; do
        "$candidate" -c "$suits" >/dev/null 2>&1 || continue
        if "$candidate" -c "$complete" >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
        incomplete=$candidate
    done
    if [ -n "$incomplete" ]; then
        echo "$incomplete can't make an environment: its venv or ensurepip is missing." >&2
        echo "On Debian and Ubuntu: apt-get install python3-venv" >&2
    elif [ -n "$given" ]; then
        echo "PYTHON=$given is not a Python 3.11, 3.12 or 3.13." >&2
    else
        echo "No Python 3.11, 3.12 or 3.13 was found (looked for python3, python3.13, python3.12," >&2
        echo "python3.11). Install one, or say where: make PYTHON=/path/to/python3.12" >&2
    fi
    return 1
}

# One process alone can make the lock, a folder; the name of the only file in it is its number.
take_lock() {
    mkdir -p "$(dirname "$lock")"
    until mkdir "$lock" 2>/dev/null; do
        if [ ! -d "$lock" ]; then
            # It went in between, or it can't be made at all, for a reason that is shown then.
            mkdir "$lock" && break
            [ -d "$lock" ] || exit 1
        fi
        owner=$(ls "$lock" 2>/dev/null || :)
        if [ "$owner" = $$ ]; then
            return # of one that died and had this number, as in a container that begins anew
        elif [ -n "$owner" ] && ! kill -0 "$owner" 2>/dev/null; then
            # Of several that wait for one that died, only one can rename its file.
            mv "$lock/$owner" "$lock/$$" 2>/dev/null && return
        elif [ -z "$waited" ]; then
            echo "Process ${owner:-unknown} is making the environment $folder; waiting for it." >&2
            echo "If there is no such process, remove $lock." >&2
            waited=yes
        fi
        sleep 1
    done
    : >"$lock/$$"
}

release_lock() {
    # Who only waited has no file in it; the folder may be of one that is about to write its own.
    rm "$lock/$$" 2>/dev/null && rmdir "$lock" 2>/dev/null || :
}

is_ready() {
    [ ! -e "$unfinished" ] && [ -e "$ready" ] &&
        [ -z "$(find pyproject.toml requirements.lock -newer "$ready")" ]
}

# What somebody else made there is not ours to remove or to change. (An empty folder holds nothing.)
refuse_foreign() {
    if [ ! -e "$unfinished" ] && [ ! -e "$ready" ] && [ -n "$(ls -A "$folder" 2>/dev/null)" ]; then
        echo "$folder is there already, and was not made by make setup, which would take out what" >&2
        echo "the lock does not name. Move it away, or remove it; then give the command again." >&2
        exit 1
    fi
}

trap release_lock EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
take_lock
if [ -n "$waited" ] && is_ready; then
    exit
fi

refuse_foreign
if [ -e "$unfinished" ] || ! "$folder/bin/python" -c "$alive" >/dev/null 2>&1; then
    python=$(find_python)
    echo "Making the environment $folder with $("$python" --version)."
    rm -rf "$folder"
    mkdir -p "$folder"
    touch "$unfinished"
    "$python" -m venv "$folder"
fi
touch "$unfinished"

if [ ! -x "$folder/bin/uv" ]; then
    # uv itself comes from the lock as well, checked by its hash.
    awk '/^[^ ]/ { inside = /^uv==/ } inside' requirements.lock >"$folder/uv.txt"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
        --require-hashes --requirement "$folder/uv.txt"
fi
"$folder/bin/uv" pip sync --python "$folder/bin/python" --require-hashes requirements.lock
"$folder/bin/uv" pip install --python "$folder/bin/python" --no-deps --no-build-isolation --quiet \
    --editable .
# It keeps the time at which this began: a lock that was edited since is newer, and installed next.
mv "$unfinished" "$ready"
