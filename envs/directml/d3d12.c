/* d3d12.dll for wine over Debian's libvkd3d, which turns Direct3D 12 into Vulkan.
 *
 * wine's own d3d12.dll is built without DXIL, the shader format of DirectML's kernels: the prompt
 * runs, the first decode step does not. libvkd3d takes DXIL since 1.15
 * (https://gitlab.winehq.org/wine/vkd3d/-/releases). This is a winelib module: an ELF library that
 * wine loads as a DLL (https://gitlab.winehq.org/wine/wine/-/wikis/Winelib-User's-Guide). It holds
 * what DirectML needs of d3d12.dll and nothing more; wine's dlls/d3d12/d3d12_main.c does the same.
 */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define COBJMACROS
#define INITGUID
#include <vkd3d.h> /* includes windows.h here, and takes DXGI's types for itself: no dxgi.h */

DEFINE_GUID(IID_IDXGIAdapter,
            0x2411e7e1, 0x12ac, 0x4ccf, 0xbd, 0x14, 0x97, 0x98, 0xe8, 0x53, 0x4d, 0xc0);

typedef struct {
    WCHAR name[128];
    UINT vendor, device, subsystem, revision;
    SIZE_T video_memory, system_memory, shared_memory;
    LUID luid;
} AdapterDescription;

/* IDXGIAdapter as far as GetDesc, its ninth method. */
typedef struct Adapter {
    const struct {
        void *earlier[8];
        HRESULT(WINAPI *describe)(struct Adapter *, AdapterDescription *);
    } *table;
} Adapter;

/* libvkd3d leaves events and threads to its host, and calls back in the ELF calling convention. */

static HRESULT signal_event(HANDLE event)
{
    return SetEvent(event) ? S_OK : E_FAIL;
}

struct thread {
    PFN_vkd3d_thread run;
    void *data;
};

static DWORD WINAPI start_thread(void *argument)
{
    struct thread thread = *(struct thread *)argument;
    free(argument);
    thread.run(thread.data);
    return 0;
}

static void *create_thread(PFN_vkd3d_thread run, void *data)
{
    struct thread *thread = malloc(sizeof *thread);
    if (!thread)
        return NULL;
    thread->run = run;
    thread->data = data;
    return CreateThread(NULL, 0, start_thread, thread, 0, NULL);
}

static HRESULT join_thread(void *thread)
{
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
    return S_OK;
}

/* DirectML asks for the driver's meta commands. libvkd3d answers E_NOTIMPL, on which DirectML
 * gives up; a driver that has none says so, and DirectML then takes its own shaders. */
static HRESULT WINAPI no_meta_commands(ID3D12Device5 *device, UINT *count,
                                        D3D12_META_COMMAND_DESC *descriptions)
{
    (void)device;
    (void)descriptions;
    *count = 0;
    return S_OK;
}

static void answer_meta_commands(ID3D12Device *device)
{
    ID3D12Device5 *device5;
    if (ID3D12Device_QueryInterface(device, &IID_ID3D12Device5, (void **)&device5) != S_OK)
        return;
    ID3D12Device5Vtbl *table = (ID3D12Device5Vtbl *)device5->lpVtbl;
    if (table->EnumerateMetaCommands != no_meta_commands) {
        /* The table is in the library's read-only data, and the entry may be at a page's end. */
        uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
        uintptr_t entry = (uintptr_t)&table->EnumerateMetaCommands & ~(page - 1);
        if (mprotect((void *)entry, 2 * page, PROT_READ | PROT_WRITE) == 0)
            table->EnumerateMetaCommands = no_meta_commands;
    }
    ID3D12Device5_Release(device5);
}

HRESULT WINAPI create_device(IUnknown *any, int feature_level, const GUID *interface_id,
                              void **device)
{
    struct vkd3d_application_info application = {
        .type = VKD3D_STRUCTURE_TYPE_APPLICATION_INFO,
        .api_version = VKD3D_API_VERSION_2_1,
    };
    struct vkd3d_instance_create_info instance = {
        .type = VKD3D_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .next = &application,
        .pfn_signal_event = signal_event,
        .pfn_create_thread = create_thread,
        .pfn_join_thread = join_thread,
        .wchar_size = 2,
    };
    struct vkd3d_device_create_info wanted = {
        .type = VKD3D_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .minimum_feature_level = feature_level,
        .instance_create_info = &instance,
    };
    AdapterDescription description = {0};
    Adapter *adapter;
    ID3D12Device *made;
    HRESULT result;

    if (!any || IUnknown_QueryInterface(any, &IID_IDXGIAdapter, (void **)&adapter) != S_OK)
        return E_INVALIDARG; /* nobody here asks for a default adapter */
    adapter->table->describe(adapter, &description);
    wanted.adapter_luid = description.luid;
    wanted.parent = (IUnknown *)adapter; /* the device keeps it, so it is not released */

    result = vkd3d_create_device(&wanted, &IID_ID3D12Device, (void **)&made);
    if (FAILED(result))
        return result;
    answer_meta_commands(made);
    /* Without a place for the device the caller asks only whether there would be one. */
    result = device ? ID3D12Device_QueryInterface(made, interface_id, device) : S_FALSE;
    ID3D12Device_Release(made);
    return result;
}

/* What Windows' optional parts would answer where they are not installed. */

HRESULT WINAPI get_interface(const GUID *class_id, const GUID *interface_id, void **object)
{
    (void)class_id;
    (void)interface_id;
    if (object)
        *object = NULL;
    return E_NOINTERFACE;
}

HRESULT WINAPI get_debug_interface(const GUID *interface_id, void **debug)
{
    return get_interface(NULL, interface_id, debug);
}

HRESULT WINAPI enable_experimental_features(unsigned count, const GUID *features, void *settings,
                                             unsigned *sizes)
{
    (void)count;
    (void)features;
    (void)settings;
    (void)sizes;
    return E_NOINTERFACE;
}

/* Root signatures are libvkd3d's own, in the other calling convention. */

HRESULT WINAPI serialize(const D3D12_ROOT_SIGNATURE_DESC *description, int version,
                          ID3DBlob **blob, ID3DBlob **error)
{
    return vkd3d_serialize_root_signature(description, version, blob, error);
}

HRESULT WINAPI serialize_versioned(const D3D12_VERSIONED_ROOT_SIGNATURE_DESC *description,
                                    ID3DBlob **blob, ID3DBlob **error)
{
    return vkd3d_serialize_versioned_root_signature(description, blob, error);
}

HRESULT WINAPI create_deserializer(const void *data, size_t size, const GUID *interface_id,
                                    void **deserializer)
{
    return vkd3d_create_root_signature_deserializer(data, size, interface_id, deserializer);
}

HRESULT WINAPI create_versioned_deserializer(const void *data, size_t size,
                                              const GUID *interface_id, void **deserializer)
{
    return vkd3d_create_versioned_root_signature_deserializer(data, size, interface_id,
                                                              deserializer);
}
