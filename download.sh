#!/bin/sh
# Fetches the data sets into data/ and verifies them. POSIX sh, with curl or wget; see --help.

set -u

tunes=http://www-etud.iro.umontreal.ca/~boulanni/Nottingham.zip
mnist_mirrors=${DLT_MNIST_MIRRORS-"https://ossci-datasets.s3.amazonaws.com/mnist/ \
https://storage.googleapis.com/cvdf-datasets/mnist/"}
nottingham_urls=${DLT_NOTTINGHAM_URLS-"$tunes https://web.archive.org/web/20190502175445id_/$tunes"}
nottingham_sha256=fd4eb21b656002790cb8429c3482518876c48881ce58270f5296fe5aad50075f
connect_seconds=10 # for a connection to be made
stall_seconds=30   # without data, after which a mirror is given up

usage() {
    cat <<EOF
usage: sh download.sh [--help] [mnist] [nottingham]

Fetches the data sets into the folder data/ beside this script, from any working directory:

  mnist        the four IDX files of MNIST, 11 MB, into data/mnist/
  nottingham   the Nottingham tunes as MIDI, 0.7 MB, as data/Nottingham.zip

Without a name it fetches both. What is there and correct is skipped, a broken download (a .part
file) is resumed, and what is corrupt is replaced as soon as the right file is there. Mirrors are
tried in turn. The exit status is 0 only if everything that was asked for is there and correct.

It needs curl or wget, gzip, and sha256sum, shasum or openssl; without these three, md5sum or md5
for MNIST.

Environment:
  DLT_MNIST_MIRRORS    addresses of folders with the four files, separated by blanks
                       (now: $mnist_mirrors)
  DLT_NOTTINGHAM_URLS  addresses of Nottingham.zip, separated by blanks
                       (now: $nottingham_urls)
The usual http_proxy, https_proxy and no_proxy are left to curl and wget.
EOF
}

say() { printf '%s\n' "$*"; }
complain() { printf 'download.sh: %s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

# The checksum of standard input as hexadecimal digits. What is printed around it differs.
sha256() {
    if have sha256sum; then sha256sum | cut -d ' ' -f 1
    elif have shasum; then shasum -a 256 | cut -d ' ' -f 1
    else openssl dgst -sha256 | sed 's/.*[ =]//'; fi
}
md5() {
    if have md5sum; then md5sum | cut -d ' ' -f 1
    else command md5 -q; fi
}

# is_correct FILE SHA256 [MD5]: with an MD5 the file is a .gz, and the SHA-256 that of its content,
# which is the same however it was compressed.
is_correct() {
    if have sha256sum || have shasum || have openssl; then
        if [ $# -eq 3 ]; then
            gzip -t <"$1" 2>/dev/null && [ "$(gzip -dc <"$1" | sha256)" = "$2" ]
        else
            [ "$(sha256 <"$1")" = "$2" ]
        fi
    elif [ $# -eq 3 ]; then
        [ "$(md5 <"$1")" = "$3" ]
    else
        complain "cannot verify $1: install sha256sum, shasum or openssl"
        return 1
    fi
}

# get URL FILE: continues the file where it ends.
get() {
    if have curl; then
        curl --fail --location --silent --show-error --connect-timeout "$connect_seconds" \
            --speed-limit 1 --speed-time "$stall_seconds" --continue-at - --output "$2" "$1"
    elif wget --version >/dev/null 2>&1; then
        wget --no-verbose --tries=1 --connect-timeout="$connect_seconds" \
            --read-timeout="$stall_seconds" --continue --output-document="$2" "$1"
    else
        wget -q -c -T "$connect_seconds" -O "$2" "$1" # all that the one of BusyBox understands
    fi
}

# fetch FILE URLS SHA256 [MD5]
fetch() {
    file=$1
    urls=$2
    shift 2
    if [ -e "$file" ]; then
        if is_correct "$file" "$@"; then
            say "$file: there already, and correct"
            return 0
        fi
        say "$file: is not the published file; fetching that one"
    fi
    for url in $urls; do
        resumed=yes
        while :; do
            [ -s "$file.part" ] || resumed=no
            say "$file: from $url"
            get "$url" "$file.part"
            status=$?
            if [ -s "$file.part" ] && is_correct "$file.part" "$@"; then
                # What was there may be dear to somebody, such as another edition of the tunes.
                [ ! -e "$file" ] || mv -f "$file" "$file.old"
                mv -f "$file.part" "$file" || return 1
                say "$file: done"
                return 0
            fi
            case $status in
            0) complain "$url gave a file with a wrong checksum" ;;
            8 | 22 | 33 | 36) complain "$url was refused" ;; # by the server: see curl, wget
            *)
                complain "$url broke off or cannot be reached"
                continue 2 # with what has come so far
                ;;
            esac
            # The beginning may be what is wrong: once more without it.
            rm -f "$file.part"
            [ "$resumed" = yes ] || break
            resumed=no
        done
    done
    complain "FAILED: $file"
    return 1
}

# fetch_mnist NAME SHA256 MD5
fetch_mnist() {
    urls=
    for mirror in $mnist_mirrors; do
        urls="$urls ${mirror%/}/$1"
    done
    fetch "$data/mnist/$1" "$urls" "$2" "$3"
}

mnist() {
    mkdir -p "$data/mnist" || return 1
    # All four are tried, so that one that fails does not keep the others from coming.
    result=0
    fetch_mnist train-images-idx3-ubyte.gz \
        ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db \
        f68b3c2dcbeaaa9fbdd348bbdeb94873 || result=1
    fetch_mnist train-labels-idx1-ubyte.gz \
        65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5 \
        d53e105ee54ea40749a09fcbcd1e9432 || result=1
    fetch_mnist t10k-images-idx3-ubyte.gz \
        0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7 \
        9fb629c4189551a2d022fa330f9573f3 || result=1
    fetch_mnist t10k-labels-idx1-ubyte.gz \
        ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2 \
        ec29112dd5afa0611ce80d1b7f02629c || result=1
    return $result
}

nottingham() {
    mkdir -p "$data" || return 1
    fetch "$data/Nottingham.zip" "$nottingham_urls" "$nottingham_sha256"
}

for name in "$@"; do
    case $name in
    -h | --help) usage; exit 0 ;;
    mnist | nottingham) ;;
    *)
        complain "unknown: $name"
        usage >&2
        exit 2
        ;;
    esac
done
data=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)/data || exit 1
if ! have curl && ! have wget; then
    complain 'needs curl or wget: install one of them'
    exit 1
fi
[ $# -gt 0 ] || set -- mnist nottingham
failed=0
for name in "$@"; do
    "$name" || failed=1
done
[ $failed -eq 0 ] || complain 'not everything could be fetched: see above; run it again to go on'
exit $failed
