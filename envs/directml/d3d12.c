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
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* libvulkan.so is Linux's: its functions are in the ELF calling convention. */
#pragma push_macro("_WIN32")
#undef _WIN32
#include <vulkan/vulkan.h>
#pragma pop_macro("_WIN32")

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

/* lavapipe gives every descriptor set the size of its layout, and libvkd3d lays one out for the
 * largest heap that the device allows: with lavapipe's million descriptors of 256 bytes, each heap
 * takes 512 MB in its two sets. ONNX Runtime has one for each graph that it captured, which is one
 * for each prompt. A device that allows fewer costs less. */
enum { MOST_DESCRIPTORS = 1 << 16 };

static PFN_vkGetPhysicalDeviceProperties2 get_properties;

static void VKAPI_CALL get_lower_limits(VkPhysicalDevice device, VkPhysicalDeviceProperties2 *all)
{
    get_properties(device, all);
    for (VkBaseOutStructure *one = all->pNext; one; one = one->pNext) {
        if (one->sType != VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DESCRIPTOR_INDEXING_PROPERTIES)
            continue;
        VkPhysicalDeviceDescriptorIndexingProperties *limits = (void *)one;
        limits->maxDescriptorSetUpdateAfterBindUniformBuffers = MOST_DESCRIPTORS;
        limits->maxDescriptorSetUpdateAfterBindStorageBuffers = MOST_DESCRIPTORS;
        limits->maxDescriptorSetUpdateAfterBindSampledImages = MOST_DESCRIPTORS;
        limits->maxDescriptorSetUpdateAfterBindStorageImages = MOST_DESCRIPTORS;
    }
}

static PFN_vkVoidFunction VKAPI_CALL vulkan_function(VkInstance instance, const char *name)
{
    PFN_vkVoidFunction found = vkGetInstanceProcAddr(instance, name);
    if (!found || strncmp(name, "vkGetPhysicalDeviceProperties2", 30) != 0)
        return found;
    get_properties = (PFN_vkGetPhysicalDeviceProperties2)found;
    return (PFN_vkVoidFunction)get_lower_limits;
}

static HRESULT(WINAPI *create_heap)(ID3D12Device5 *, const D3D12_DESCRIPTOR_HEAP_DESC *, REFIID,
                                    void **);

/* libvkd3d would write past the end of the sets. */
static HRESULT WINAPI create_small_heap(ID3D12Device5 *device,
                                        const D3D12_DESCRIPTOR_HEAP_DESC *description,
                                        REFIID interface_id, void **heap)
{
    if (description->NumDescriptors > MOST_DESCRIPTORS)
        return E_OUTOFMEMORY;
    return create_heap(device, description, interface_id, heap);
}

static void answer_otherwise(ID3D12Device *device)
{
    ID3D12Device5 *device5;
    if (ID3D12Device_QueryInterface(device, &IID_ID3D12Device5, (void **)&device5) != S_OK)
        return;
    ID3D12Device5Vtbl *table = (ID3D12Device5Vtbl *)device5->lpVtbl;
    if (table->EnumerateMetaCommands != no_meta_commands) {
        /* The table is in the library's read-only data, perhaps on two pages. */
        uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
        uintptr_t start = (uintptr_t)table & ~(page - 1);
        size_t size = (uintptr_t)(table + 1) - start;
        if (mprotect((void *)start, size, PROT_READ | PROT_WRITE) == 0) {
            create_heap = table->CreateDescriptorHeap;
            table->CreateDescriptorHeap = create_small_heap;
            table->EnumerateMetaCommands = no_meta_commands;
        }
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
        .pfn_vkGetInstanceProcAddr = vulkan_function,
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
    answer_otherwise(made);
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
