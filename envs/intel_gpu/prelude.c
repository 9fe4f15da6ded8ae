/* Puts prelude.cl, which is compiled in, before the source of each program; the variable
 * PHIFORGE_PRELUDE names another file instead (for tests). */
#include "layer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* prelude.cl with a zero behind it. */
__asm__(".pushsection .rodata\n.hidden prelude_text\n.global prelude_text\n"
        "prelude_text: .incbin \"prelude.cl\"\n.byte 0\n.popsection");
extern const char prelude_text[] __attribute__((visibility("hidden")));

static const char *text(void) {
    static char other[65536];
    const char *file = getenv("PHIFORGE_PRELUDE");
    FILE *opened = file ? fopen(file, "r") : NULL;
    if (!opened)
        return prelude_text;
    other[fread(other, 1, sizeof other - 1, opened)] = 0;
    fclose(opened);
    return other;
}

static cl_program create(cl_context context, cl_uint count, const char **strings,
                         const size_t *lengths, cl_int *error) {
    const char **with = malloc((count + 1) * sizeof *with);
    size_t *sizes = malloc((count + 1) * sizeof *sizes);
    with[0] = text();
    sizes[0] = strlen(with[0]);
    for (cl_uint i = 0; i < count; i++) {
        with[i + 1] = strings[i];
        sizes[i + 1] = lengths && lengths[i] ? lengths[i] : strlen(strings[i]);
    }
    cl_program program = below->clCreateProgramWithSource(context, count + 1, with, sizes, error);
    free(with);
    free(sizes);
    return program;
}

void prelude(struct _cl_icd_dispatch *above) { above->clCreateProgramWithSource = create; }
