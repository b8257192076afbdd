/* A GPU that is a file: libnvidia-ml.so.1 for tests.
 *
 * Compile:  gcc -O2 -fPIC -shared -Wl,-soname,libnvidia-ml.so.1 -o libnvidia-ml.so.1 fake_nvml.c
 * The state is a struct in the file $FAKE_NVML_STATE, shared by all processes; tests read and write it (see fake_gpu.py).
 * Power follows from clock and limit, energy is its integral over real time.
 */
#include <fcntl.h>
#include <string.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, SMALL = 7, NO_DRIVER = 9 };
#define CORE_LEVELS 8

typedef struct {
    unsigned core_lock, memory_lock;         /* MHz, 0 = not locked */
    unsigned app_memory, app_core;           /* MHz */
    unsigned limit_mw, architecture, mig;    /* architecture as in nvmlDeviceArchitecture_t */
    unsigned memory_levels, reasons, keeps;  /* keeps: MHz the board runs at whatever was locked, 0 = as locked */
    unsigned temperature, num_sets;
    double energy_mj, since_s;
    char refused[1024];                      /* "function=code;..." */
} State;

static State *state;

static State *gpu(void) {
    if (!state) {
        const char *path = getenv("FAKE_NVML_STATE");
        int file = path ? open(path, O_RDWR) : -1;
        if (file < 0) return NULL;
        void *memory = mmap(NULL, sizeof(State), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        close(file);
        state = memory == MAP_FAILED ? NULL : memory;
    }
    return state;
}

static int refused(const char *function) {
    const char *at = strstr(gpu()->refused, function);
    size_t length = strlen(function);
    while (at && at[length] != '=') at = strstr(at + 1, function);
    return at ? atoi(at + length + 1) : OK;
}
#define ASKED(function) do { int code_ = refused(#function); if (code_) return code_; } while (0)

static unsigned memory_mhz(unsigned level) { return level == 0 ? 2619 : 1593; }
static unsigned core_mhz(unsigned level) { return 1980 - 210 * level; }

static unsigned running_core(void) {
    State *s = gpu();
    if (s->keeps) return s->keeps;
    if (s->core_lock) return s->core_lock;
    return s->architecture < 5 ? s->app_core : 345;   /* nothing locked: an idle board sinks */
}
static unsigned running_memory(void) {
    State *s = gpu();
    return s->memory_lock ? s->memory_lock : s->architecture < 5 ? s->app_memory : 2619;
}
static double power_mw(void) {
    double watts = 80 + 0.25 * running_core();
    return watts * 1e3 < gpu()->limit_mw ? watts * 1e3 : gpu()->limit_mw;
}
static void integrate(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double now_s = now.tv_sec + now.tv_nsec * 1e-9;
    if (gpu()->since_s > 0) gpu()->energy_mj += (now_s - gpu()->since_s) * power_mw();
    gpu()->since_s = now_s;
}
static int text(char *out, unsigned size, const char *value) {
    if (strlen(value) >= size) return SMALL;
    strcpy(out, value);
    return OK;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return gpu() ? OK : NO_DRIVER; }
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == NO_PERMISSION ? "Insufficient Permissions" : "an error"; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    if (index) return INVALID;
    *device = gpu();
    return OK;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    if (strcmp(uuid, "GPU-fake-0")) return NOT_FOUND;
    *device = gpu();
    return OK;
}
int nvmlDeviceGetName(void *d, char *name, unsigned size) { (void)d; return text(name, size, "Fake H200"); }
int nvmlDeviceGetUUID(void *d, char *uuid, unsigned size) { (void)d; return text(uuid, size, "GPU-fake-0"); }
int nvmlDeviceGetArchitecture(void *d, unsigned *architecture) {
    (void)d;
    ASKED(nvmlDeviceGetArchitecture);
    *architecture = gpu()->architecture;
    return OK;
}
int nvmlDeviceGetMigMode(void *d, unsigned *now, unsigned *pending) {
    (void)d;
    ASKED(nvmlDeviceGetMigMode);
    *now = *pending = gpu()->mig;
    return OK;
}
int nvmlDeviceGetSupportedMemoryClocks(void *d, unsigned *count, unsigned *clocks) {
    (void)d;
    ASKED(nvmlDeviceGetSupportedMemoryClocks);
    if (!clocks || *count < gpu()->memory_levels) { *count = gpu()->memory_levels; return SMALL; }
    for (unsigned level = 0; level < gpu()->memory_levels; level++) clocks[level] = memory_mhz(level);
    return OK;
}
int nvmlDeviceGetSupportedGraphicsClocks(void *d, unsigned memory, unsigned *count, unsigned *clocks) {
    (void)d;
    if (memory != 2619 && memory != 1593) return NOT_FOUND;
    if (!clocks || *count < CORE_LEVELS) { *count = CORE_LEVELS; return SMALL; }
    for (unsigned level = 0; level < CORE_LEVELS; level++) clocks[level] = core_mhz(level);
    return OK;
}
int nvmlDeviceGetClockInfo(void *d, unsigned type, unsigned *mhz) {
    (void)d;
    *mhz = type == 2 ? running_memory() : running_core();
    return OK;
}
int nvmlDeviceGetApplicationsClock(void *d, unsigned type, unsigned *mhz) {
    (void)d;
    ASKED(nvmlDeviceGetApplicationsClock);
    *mhz = type == 2 ? gpu()->app_memory : gpu()->app_core;
    return OK;
}
int nvmlDeviceSetApplicationsClocks(void *d, unsigned memory, unsigned core) {
    (void)d;
    ASKED(nvmlDeviceSetApplicationsClocks);
    if (gpu()->architecture >= 9) return NOT_SUPPORTED;
    integrate();
    gpu()->num_sets++;
    gpu()->app_memory = memory;
    gpu()->app_core = core;
    return OK;
}
static int lock_clock(unsigned *which, unsigned low, unsigned high, unsigned needs) {
    if (gpu()->architecture < needs) return NOT_SUPPORTED;
    if (low != high) return INVALID;
    integrate();
    gpu()->num_sets++;
    *which = high;
    return OK;
}
int nvmlDeviceSetGpuLockedClocks(void *d, unsigned low, unsigned high) {
    (void)d;
    ASKED(nvmlDeviceSetGpuLockedClocks);
    return lock_clock(&gpu()->core_lock, low, high, 5);
}
int nvmlDeviceResetGpuLockedClocks(void *d) {
    (void)d;
    ASKED(nvmlDeviceResetGpuLockedClocks);
    return lock_clock(&gpu()->core_lock, 0, 0, 5);
}
int nvmlDeviceSetMemoryLockedClocks(void *d, unsigned low, unsigned high) {
    (void)d;
    ASKED(nvmlDeviceSetMemoryLockedClocks);
    return lock_clock(&gpu()->memory_lock, low, high, 7);
}
int nvmlDeviceResetMemoryLockedClocks(void *d) {
    (void)d;
    ASKED(nvmlDeviceResetMemoryLockedClocks);
    return lock_clock(&gpu()->memory_lock, 0, 0, 7);
}
int nvmlDeviceGetEnforcedPowerLimit(void *d, unsigned *mw) {
    (void)d;
    ASKED(nvmlDeviceGetEnforcedPowerLimit);
    *mw = gpu()->limit_mw;
    return OK;
}
int nvmlDeviceGetPowerManagementLimit(void *d, unsigned *mw) { (void)d; *mw = gpu()->limit_mw + 1000; return OK; }
int nvmlDeviceGetPowerUsage(void *d, unsigned *mw) {
    (void)d;
    ASKED(nvmlDeviceGetPowerUsage);
    *mw = (unsigned)power_mw();
    return OK;
}
int nvmlDeviceGetTotalEnergyConsumption(void *d, unsigned long long *mj) {
    (void)d;
    ASKED(nvmlDeviceGetTotalEnergyConsumption);
    integrate();
    *mj = (unsigned long long)gpu()->energy_mj;
    return OK;
}
int nvmlDeviceGetCurrentClocksEventReasons(void *d, unsigned long long *reasons) {
    (void)d;
    ASKED(nvmlDeviceGetCurrentClocksEventReasons);
    *reasons = gpu()->reasons;
    return OK;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void *d, unsigned long long *reasons) {
    (void)d;
    *reasons = gpu()->reasons;
    return OK;
}
typedef struct { unsigned version, sensor; int temperature; } Temperature;
int nvmlDeviceGetTemperatureV(void *d, Temperature *temperature) {
    (void)d;
    ASKED(nvmlDeviceGetTemperatureV);
    temperature->temperature = (int)gpu()->temperature;
    return OK;
}
int nvmlDeviceGetTemperature(void *d, unsigned sensor, unsigned *celsius) {
    (void)d; (void)sensor;
    *celsius = gpu()->temperature;
    return OK;
}
