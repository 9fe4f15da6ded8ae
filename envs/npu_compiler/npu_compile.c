/* Compile an IR for an NPU and write the blob, with OpenVINO's C API on Windows.
 *
 *     npu-compile.exe IR.xml BLOB [NAME VALUE]...
 *
 * Beside it must be openvino_c.dll and what that loads; it is opened by name, so that no import
 * library is needed. Prints one line "NAME VALUE" for each thing that is worth recording. Exit
 * code 0: the blob was written. 3: OpenVINO does not take the IR, or crashed on it. 1: something
 * else failed, writing the blob for instance. 2: wrong usage, or not the DLLs that are needed. The
 * last line of standard error, "error: ...", says at which step and why.
 *
 * C API: https://docs.openvino.ai/2026/api/c_cpp_api/group__ov__c__api.html
 */
#include <stdio.h>
#include <stdlib.h>
#include <windows.h>

/* The longest list of NAME and VALUE that compile_model is called with; the caller needs 13 pairs. */
#define MOST_ARGUMENTS 40

enum { FAILED = 1, UNUSABLE = 2, REFUSED = 3 };

typedef struct ov_core ov_core_t;
typedef struct ov_model ov_model_t;
typedef struct ov_compiled_model ov_compiled_model_t;

static int (*core_create)(ov_core_t **);
static int (*core_read_model)(const ov_core_t *, const char *, const char *, ov_model_t **);
static int (*core_get_property)(const ov_core_t *, const char *, const char *, char **);
static int (*core_compile_model)(const ov_core_t *, const ov_model_t *, const char *, size_t,
                                 ov_compiled_model_t **, ...);
static int (*compiled_model_export_model)(const ov_compiled_model_t *, const char *);
static int (*core_set_property)(const ov_core_t *, const char *, ...);
static const char *(*get_last_err_msg)(void);

static LPVOID WINAPI zeroed_alloc(HANDLE heap, DWORD flags, SIZE_T size)
{
    return HeapAlloc(heap, flags | HEAP_ZERO_MEMORY, size);
}

static LPVOID WINAPI zeroed_realloc(HANDLE heap, DWORD flags, LPVOID memory, SIZE_T size)
{
    return HeapReAlloc(heap, flags | HEAP_ZERO_MEMORY, memory, size);
}

/* Let the C runtime, and so every DLL of OpenVINO's, get zeroed memory. OpenVINO's NPUW exports a
 * buffer that it fills only at run time (6 KB of an embedding's row, at Phi-3-mini's width): else
 * what lay in memory before goes into the blob, and no two blobs are equal (seen with 2026.4.1).
 * The functions that ucrtbase.dll imports are replaced in its import table.
 * PE format: https://learn.microsoft.com/windows/win32/debug/pe-format#the-idata-section
 */
static void zero_what_is_allocated(void)
{
    char *image = (char *)LoadLibraryA("ucrtbase.dll");
    int replaced = 0;
    if (image != NULL) {
        IMAGE_DOS_HEADER *dos = (IMAGE_DOS_HEADER *)image;
        IMAGE_NT_HEADERS *headers = (IMAGE_NT_HEADERS *)(image + dos->e_lfanew);
        IMAGE_DATA_DIRECTORY *directory =
            &headers->OptionalHeader.DataDirectory[IMAGE_DIRECTORY_ENTRY_IMPORT];
        IMAGE_IMPORT_DESCRIPTOR *import =
            (IMAGE_IMPORT_DESCRIPTOR *)(image + directory->VirtualAddress);
        HMODULE kernel = GetModuleHandleA("kernel32.dll");
        void *from[] = {(void *)GetProcAddress(kernel, "HeapAlloc"),
                        (void *)GetProcAddress(kernel, "HeapReAlloc")};
        void *to[] = {(void *)zeroed_alloc, (void *)zeroed_realloc};
        for (; import->Name != 0; import++) {
            void **slot = (void **)(image + import->FirstThunk);
            for (; *slot != NULL; slot++) {
                for (int i = 0; i < 2; i++) {
                    DWORD before;
                    if (*slot != from[i] ||
                        !VirtualProtect(slot, sizeof *slot, PAGE_READWRITE, &before))
                        continue;
                    *slot = to[i];
                    VirtualProtect(slot, sizeof *slot, before, &before);
                    replaced++;
                }
            }
        }
    }
    if (replaced != 2) {
        fprintf(stderr, "error: ucrtbase.dll does not allocate as it should\n");
        exit(UNUSABLE);
    }
}

static FARPROC function(HMODULE library, const char *name)
{
    FARPROC found = GetProcAddress(library, name);
    if (found == NULL) {
        fprintf(stderr, "error: openvino_c.dll has no %s\n", name);
        exit(UNUSABLE);
    }
    return found;
}

static void open_openvino(void)
{
    HMODULE library = LoadLibraryA("openvino_c.dll");
    if (library == NULL) {
        fprintf(stderr, "error: openvino_c.dll cannot be loaded (%lu)\n", GetLastError());
        exit(UNUSABLE);
    }
    core_create = (void *)function(library, "ov_core_create");
    core_read_model = (void *)function(library, "ov_core_read_model");
    core_get_property = (void *)function(library, "ov_core_get_property");
    core_set_property = (void *)function(library, "ov_core_set_property");
    core_compile_model = (void *)function(library, "ov_core_compile_model");
    compiled_model_export_model = (void *)function(library, "ov_compiled_model_export_model");
    get_last_err_msg = (void *)function(library, "ov_get_last_err_msg");
}

/* End the process with `code` unless `status` is 0. */
static void need(int status, int code, const char *step)
{
    if (status == 0)
        return;
    const char *message = get_last_err_msg();
    /* One line: OpenVINO's messages have many. */
    fprintf(stderr, "error: %s: ", step);
    for (const char *letter = message ? message : "no message"; *letter; letter++)
        fputc(*letter == '\n' || *letter == '\r' ? ' ' : *letter, stderr);
    fputc('\n', stderr);
    exit(code);
}

static LONG WINAPI crashed(EXCEPTION_POINTERS *exception)
{
    fprintf(stderr, "error: crashed with exception 0x%08lX\n",
            (unsigned long)exception->ExceptionRecord->ExceptionCode);
    ExitProcess(REFUSED);
}

int main(int count, char **arguments)
{
    const char *given[MOST_ARGUMENTS] = {0};
    int options = count - 3;
    if (options < 0 || options % 2 != 0 || options > MOST_ARGUMENTS) {
        fprintf(stderr, "usage: npu-compile.exe IR.xml BLOB [NAME VALUE]...\n");
        return UNUSABLE;
    }
    for (int i = 0; i < options; i++)
        given[i] = arguments[i + 3];

    zero_what_is_allocated();
    open_openvino();
    ov_core_t *core = NULL;
    ov_model_t *model = NULL;
    ov_compiled_model_t *compiled = NULL;
    need(core_create(&core), FAILED, "start OpenVINO");
    /* The version is that of the compiler which the plugin would use, so it has to be named. */
    need(core_set_property(core, "NPU", "NPU_COMPILER_TYPE", "PLUGIN"), FAILED, "choose the compiler");
    char *version = NULL;
    need(core_get_property(core, "NPU", "NPU_COMPILER_VERSION", &version), FAILED,
         "ask for the compiler");
    printf("NPU_COMPILER_VERSION %s\n", version);
    SetUnhandledExceptionFilter(crashed);
    need(core_read_model(core, arguments[1], NULL, &model), REFUSED, "read the IR");
    const char **g = given;
    need(core_compile_model(core, model, "NPU", (size_t)options, &compiled,
                            g[0], g[1], g[2], g[3], g[4], g[5], g[6], g[7], g[8], g[9],
                            g[10], g[11], g[12], g[13], g[14], g[15], g[16], g[17], g[18], g[19],
                            g[20], g[21], g[22], g[23], g[24], g[25], g[26], g[27], g[28], g[29],
                            g[30], g[31], g[32], g[33], g[34], g[35], g[36], g[37], g[38], g[39]),
         REFUSED, "compile");
    need(compiled_model_export_model(compiled, arguments[2]), FAILED, "write the blob");
    return 0;
}
