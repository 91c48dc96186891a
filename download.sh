#!/bin/sh
# usage: sh download.sh [--help] [mnist] [nottingham]
#
# Fetches data sets into the folder data/ beside this script, and verifies them:
#
#   mnist        the four IDX files of MNIST, 11 MB, into data/mnist/
#   nottingham   the Nottingham tunes as MIDI, 0.7 MB, as data/Nottingham.zip
#
# Without a name it fetches both. What is there and correct is skipped; what is there and is another
# file is left alone. The exit status is 0 only if all that was asked for is there and correct.
# DLT_MNIST_MIRRORS and DLT_NOTTINGHAM_URLS replace the usual addresses, of folders with the files or
# of the file; separated by blanks, they are tried in turn.
# It needs curl or wget, gzip, and sha256sum, shasum or openssl.
set -u

home=http://www-etud.iro.umontreal.ca/~boulanni
mnist_mirrors=${DLT_MNIST_MIRRORS-"https://ossci-datasets.s3.amazonaws.com/mnist/ \
https://storage.googleapis.com/cvdf-datasets/mnist/"}
nottingham_urls=${DLT_NOTTINGHAM_URLS-"$home https://web.archive.org/web/20190502175445id_/$home"}
data=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)/data || exit 1
status=0

complain() { printf 'download.sh: %s\n' "$*" >&2; status=1; }
have() { command -v "$1" >/dev/null 2>&1; }

get() {
    if have curl; then curl -fsSL --connect-timeout 10 --max-time 900 "$1"
    else wget -q -T 30 -O - "$1"; fi
}

# The SHA-256 of a file; for a .gz that of its content, which can be compressed in many ways.
sum() {
    case $1 in *.gz) gzip -dc <"$1" || echo broken ;; *) cat "$1" ;; esac 2>/dev/null |
        if have sha256sum; then sha256sum
        elif have shasum; then shasum -a 256
        else openssl dgst -sha256; fi | grep -Eo '[0-9a-f]{64}'
}

# fetch FILE SHA256 MIRRORS: the file gets its name, in one step, when it is complete and correct.
fetch() {
    file=$data/$1 name=${1##*/}
    if [ -e "$file" ]; then
        if [ "$(sum "$file")" = "$2" ]; then echo "$file: there already, and correct"
        else complain "$file is not the published file: left as it is; move it away to have that"; fi
        return
    fi
    mkdir -p "${file%/*}" || { status=1; return; }
    part=${file%/*}/.$$.$name
    for url in $3; do
        case $url in *."${name##*.}") ;; *) url=${url%/}/$name ;; esac
        echo "$file: from $url"
        # Twice the size of the largest file is enough, however much a mirror sends.
        get "$url" | head -c 20000000 >"$part" ||
            { complain "cannot write $part"; rm -f "$part"; return; }
        [ "$(sum "$part")" = "$2" ] && mv -f "$part" "$file" && return
        rm -f "$part"
    done
    complain "$file: FAILED, no mirror gave the published file (${3:-no mirror is set})"
}

mnist() {
    fetch mnist/t10k-labels-idx1-ubyte.gz \
        ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2 "$mnist_mirrors"
    fetch mnist/train-labels-idx1-ubyte.gz \
        65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5 "$mnist_mirrors"
    fetch mnist/t10k-images-idx3-ubyte.gz \
        0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7 "$mnist_mirrors"
    fetch mnist/train-images-idx3-ubyte.gz \
        ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db "$mnist_mirrors"
}

nottingham() {
    fetch Nottingham.zip \
        fd4eb21b656002790cb8429c3482518876c48881ce58270f5296fe5aad50075f "$nottingham_urls"
}

[ $# -gt 0 ] || set -- mnist nottingham
for name in "$@"; do
    case $name in
    mnist | nottingham) ;;
    -h | --help) sed -n '/^#!/d; s/^# \{0,1\}//p; /^set/q' "$0"; exit 0 ;;
    *) complain "$name is unknown, see --help"; exit 2 ;;
    esac
done
part=
trap 'rm -f "$part"' EXIT
trap 'exit 1' HUP INT TERM
for name in "$@"; do "$name"; done
exit $status
