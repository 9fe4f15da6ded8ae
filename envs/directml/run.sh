#!/bin/bash
# Inside the tree: run a Windows program with DirectML on Mesa's software Vulkan.
#
#     run.sh PROGRAM.exe ARGUMENT...
#
# The exit code is the program's, or 90: no display, 91: the wine server died.
set -u
export WINEPREFIX=/opt/directml/prefix WINEDEBUG=-all VKD3D_DEBUG=none DISPLAY=:0
export VK_DRIVER_FILES=/usr/share/vulkan/icd.d/lvp_icd.json
# Our two libraries before wine's; no debugger, which would wait for someone.
export WINEDLLOVERRIDES='dxcore=n;d3d12=n;mscoree,mshtml,winedbg.exe='
# With it ONNX Runtime waits for an answer of Windows that never comes here.
export ORT_DISABLE_TELEMETRY=1
# wine's DXGI wants a display; nothing is ever shown on it.
Xvfb :0 -screen 0 640x480x24 -nolisten tcp > /tmp/xvfb.log 2>&1 &
until [ -S /tmp/.X11-unix/X0 ]; do
    kill -0 $! 2> /dev/null || { cat /tmp/xvfb.log; echo "error: Xvfb did not start"; exit 90; }
    sleep 0.05
done
program=/opt/directml/$1
shift
# A program whose wine server is gone waits for ever, so the server is watched. It is started first:
# a program that finds none starts its own, and ours would end.
/usr/lib/wine/wineserver64 --foreground --persistent &
server=$!
until compgen -G '/tmp/wine-*/server-*/socket' > /dev/null; do
    kill -0 $server 2> /dev/null || exit 91
    sleep 0.05
done
/usr/lib/wine/wine64 "$program" "$@" &
wait -n -p ended $! $server
code=$?
[ "$ended" != "$server" ] || code=91
exit $code
