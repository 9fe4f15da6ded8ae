/* dxcore.dll for wine: send who asks for it to DXGI.
 *
 * wine's own answers E_NOTIMPL (dlls/dxcore/main.c), on which DirectML and ONNX Runtime give up.
 * E_NOINTERFACE is what a Windows without DXCore says, and both then ask DXGI, which wine has.
 */
#include <windows.h>

__declspec(dllexport) HRESULT WINAPI DXCoreCreateAdapterFactory(REFIID interface_id, void **factory)
{
    (void)interface_id;
    if (factory)
        *factory = NULL;
    return E_NOINTERFACE;
}
