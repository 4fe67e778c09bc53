#!/usr/bin/env bash
# See that nerfstudio's exporter and renderer can be imported and can write mp4, which takes libraries that no Python
# package brings. Usage: system_libraries.sh PYTHON. Installs what is missing where that is possible (root, apt-get),
# otherwise says what to install; never fails, because training works without them.
set -u
python=$1

missing() {
    "$python" -c "import open3d, pymeshlab" >/dev/null 2>&1 ||
        echo "libgl1 libegl1 libopengl0 libx11-6 libusb-1.0-0 libgomp1"
    command -v ffmpeg >/dev/null || echo "ffmpeg"
}

packages=$(missing | xargs)
[ -n "$packages" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing system libraries: $packages"
    # shellcheck disable=SC2086
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages; } \
        >/dev/null </dev/null
    packages=$(missing | xargs)
fi
[ -z "$packages" ] || echo "ns-export and ns-render need system packages that are not here (Debian's names): $packages"
