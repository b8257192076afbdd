/* An emulated GPU: libnvidia-ml.so.1 over a struct in a file, which all processes share.
 *
 * Theory of operation. The struct holds what was asked (locks, limits), a chip's tables (clock levels, static power at
 * each of them, busy and idle) and its state at a time `now_s` of the card. Nobody keeps it running: whoever asks
 * anything first lets the time since then pass (advance), in steps between which clocks, load and temperature stand
 * still. Work is told by the runner: from when, how long, how many joules beyond the static power. Card time is the
 * machine's monotonic clock since `origin_s`, slower by `factor`; with a factor of 0 it moves only when it is told to.
 *
 * A clock that was asked for runs after `settle_s`: the old one goes on for most of it, then it ramps. The read-back
 * tells what was asked at once (bookkeeping, as drivers do), unless `honest` is set. The counter moves every
 * `period_s`. The fields from `refused` on are lies told on demand.
 */
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, SMALL = 7, NO_DRIVER = 9, LOST = 15
};
enum { CORE, MEMORY };
#define CORES 256
#define MEMORIES 16
#define HEAT_STEP_S 0.05
#define THROTTLE_PERIOD_S 0.1
#define HELD_SHARE 0.6 /* of the settling time, before a clock begins to move */
#define POWER_INSTANT 186

typedef struct { double from_mhz, to_mhz, since_s; } Ramp;

typedef struct {
    /* the chip */
    unsigned architecture, mig, num_cores, num_memories, idle_mhz;
    unsigned limit_low_mw, limit_high_mw, limit_default_mw;
    unsigned core_mhz[CORES], memory_mhz[MEMORIES]; /* ascending */
    char name[64], uuid[64];
    double factor, origin_s, period_s, rest_s, settle_s[2], call_s[2];
    double ambient_c, resistance_c_per_w, time_constant_s, throttle_c, resume_c, leak_per_c;
    double fixed_w[2][CORES][MEMORIES], leak_w[2][CORES][MEMORIES]; /* [busy] */
    /* what was asked */
    unsigned core_lock, memory_lock, app_memory, app_core, limit_mw, management_mw, num_sets; /* locks: 0 = none */
    /* what is */
    double now_s, energy_j, latched_j, temperature_c, worked_s, checked_s, power_w;
    double cap_mhz; /* what the power limit leaves to the work that runs; 0 = all */
    unsigned heat_cap; /* levels that heat takes from the top */
    Ramp ramp[2];
    /* lies */
    unsigned reasons, keeps, temperature; /* keeps: MHz it runs at whatever was locked; temperature: told always */
    unsigned lost, stalled, honest, half; /* half: a lock goes half the way, the memory clock none of it */
    unsigned lost_after, padding; /* lost_after: number of settings after which the card is gone; 0 = never */
    double drift_mhz_per_s, jump_mj, wrap_mj, stalled_mj, locked_s;
    char refused[1024]; /* "function=code;..." */
} State;

static State *state;
static int state_file = -1;
static pthread_mutex_t threads = PTHREAD_MUTEX_INITIALIZER;

int amble_card_open(const char *path) {
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return NO_DRIVER;
    struct stat new, old;
    if (fstat(file, &new) || new.st_size < (off_t)sizeof(State)) { close(file); return NO_DRIVER; }
    if (state && !fstat(state_file, &old) && old.st_dev == new.st_dev && old.st_ino == new.st_ino) {
        close(file);
        return OK;
    }
    void *memory = mmap(NULL, sizeof(State), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) { close(file); return NO_DRIVER; }
    state = memory; /* an old one stays mapped: another thread may look at it */
    state_file = file;
    return OK;
}
unsigned amble_card_size(void) { return sizeof(State); }

static State *gpu(void) {
    if (!state) amble_card_open(getenv("AMBLE_EMULATED_STATE"));
    return state;
}

static int refused(const char *function) {
    if (gpu()->lost) return LOST;
    const char *at = strstr(gpu()->refused, function);
    size_t length = strlen(function);
    while (at && at[length] != '=') at = strstr(at + 1, function);
    return at ? atoi(at + length + 1) : OK;
}
#define ASKED(function) do { int code_ = refused(#function); if (code_) return code_; } while (0)

/* --- time and clocks --------------------------------------------------------------------------------------------- */

static void enter(void) {
    pthread_mutex_lock(&threads);
    while (flock(state_file, LOCK_EX)) {}
}
static void leave(void) {
    flock(state_file, LOCK_UN);
    pthread_mutex_unlock(&threads);
}

double amble_card_now(void) {
    State *s = gpu();
    if (s->factor <= 0) return s->now_s;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec + now.tv_nsec * 1e-9 - s->origin_s) / s->factor;
}

static double ramp_mhz(const Ramp *ramp, double settle_s, double at_s) {
    double held_s = HELD_SHARE * settle_s, passed_s = at_s - ramp->since_s;
    if (passed_s >= settle_s) return ramp->to_mhz;
    if (passed_s <= held_s) return ramp->from_mhz;
    return ramp->from_mhz + (ramp->to_mhz - ramp->from_mhz) * (passed_s - held_s) / (settle_s - held_s);
}

/* What the board is on its way to: what was locked, or what its own governor wants. */
static double wanted_mhz(int domain, double at_s) {
    State *s = gpu();
    if (domain == MEMORY) {
        double own = s->architecture < 5 ? s->app_memory : s->memory_mhz[s->num_memories - 1];
        return s->memory_lock && !s->half ? s->memory_lock : own;
    }
    double top = s->core_mhz[s->num_cores - 1];
    double own = s->architecture < 5 ? s->app_core : at_s - s->worked_s < s->rest_s ? top : s->idle_mhz;
    if (!s->core_lock) return own;
    return s->half ? (s->core_lock + top) / 2 : s->core_lock;
}

static double capped_mhz(double core_mhz) {
    State *s = gpu();
    if (s->keeps) return s->keeps;
    double hot = s->core_mhz[s->num_cores - 1 - s->heat_cap];
    if (s->heat_cap && core_mhz > hot) core_mhz = hot;
    if (s->cap_mhz > 0 && core_mhz > s->cap_mhz) core_mhz = s->cap_mhz;
    return core_mhz;
}

static double running_mhz(int domain, double at_s) {
    State *s = gpu();
    double mhz = ramp_mhz(&s->ramp[domain], s->settle_s[domain], at_s);
    if (domain == MEMORY) return mhz;
    if (s->core_lock && s->drift_mhz_per_s > 0) {
        double low = s->core_mhz[0], sunk = mhz - s->drift_mhz_per_s * (at_s - s->locked_s);
        mhz = sunk > low ? sunk : low;
    }
    return capped_mhz(mhz);
}

static void follow(double at_s) {
    for (int domain = CORE; domain <= MEMORY; domain++) {
        Ramp *ramp = &gpu()->ramp[domain];
        double wanted = wanted_mhz(domain, at_s);
        if (wanted == ramp->to_mhz) continue;
        ramp->from_mhz = ramp_mhz(ramp, gpu()->settle_s[domain], at_s);
        ramp->to_mhz = wanted;
        ramp->since_s = at_s;
    }
}

/* --- power and heat ---------------------------------------------------------------------------------------------- */

static double between(const unsigned *levels, unsigned count, double mhz, unsigned *low) {
    unsigned at = 0;
    if (count < 2) { *low = 0; return 0; }
    while (at + 2 < count && levels[at + 1] <= mhz) at++;
    *low = at;
    return (mhz - levels[at]) / (double)(levels[at + 1] - levels[at]);
}

static double in_table(double table[CORES][MEMORIES], double core_mhz, double memory_mhz) {
    State *s = gpu();
    unsigned core, memory;
    double along = between(s->core_mhz, s->num_cores, core_mhz, &core);
    double across = between(s->memory_mhz, s->num_memories, memory_mhz, &memory);
    double sum = 0;
    for (unsigned i = 0; i < 2; i++)
        for (unsigned j = 0; j < 2; j++) {
            double weight = (i ? along : 1 - along) * (j ? across : 1 - across);
            if (weight != 0) sum += weight * table[core + i][memory + j];
        }
    return sum;
}

static double static_w(int busy, double at_s) {
    State *s = gpu();
    double core = running_mhz(CORE, at_s), memory = running_mhz(MEMORY, at_s);
    double leak_w = in_table(s->leak_w[busy], core, memory);
    return in_table(s->fixed_w[busy], core, memory) + leak_w * exp(s->leak_per_c * (s->temperature_c - 45.0));
}

static void warm(double duration_s) {
    State *s = gpu();
    double settled_c = s->ambient_c + s->resistance_c_per_w * s->power_w;
    if (s->time_constant_s > 0)
        s->temperature_c = settled_c + (s->temperature_c - settled_c) * exp(-duration_s / s->time_constant_s);
    if (s->now_s - s->checked_s < THROTTLE_PERIOD_S) return;
    s->checked_s = s->now_s;
    if (s->temperature_c > s->throttle_c && settled_c > s->temperature_c) {
        if (s->heat_cap + 1 < s->num_cores) s->heat_cap++;
    } else if (s->temperature_c < s->resume_c && s->heat_cap) s->heat_cap--;
}

/* Let time pass under one load; the counter takes what was used at its last tick. */
static void step(int busy, double duration_s, double dynamic_w) {
    State *s = gpu();
    s->power_w = static_w(busy, s->now_s + duration_s / 2) + dynamic_w;
    double end_s = s->now_s + duration_s;
    if (s->period_s <= 0) s->latched_j = s->energy_j + s->power_w * duration_s;
    else {
        double tick_s = floor(end_s / s->period_s) * s->period_s;
        if (tick_s > s->now_s) s->latched_j = s->energy_j + s->power_w * (tick_s - s->now_s);
    }
    s->energy_j += s->power_w * duration_s;
    s->now_s = end_s;
    if (busy) s->worked_s = end_s;
    warm(duration_s);
}

static double next_s(double until_s) {
    State *s = gpu();
    double next = s->now_s + HEAT_STEP_S;
    for (int domain = CORE; domain <= MEMORY; domain++) {
        double settle_s = s->settle_s[domain], since_s = s->ramp[domain].since_s;
        if (s->now_s >= since_s + settle_s) continue;
        double held_s = since_s + HELD_SHARE * settle_s;
        double edge = s->now_s < held_s - 1e-12 ? held_s : s->now_s + settle_s / 20;
        if (edge < next) next = edge;
    }
    double rest_s = s->worked_s + s->rest_s;
    if (s->now_s < rest_s && rest_s < next) next = rest_s;
    return next < until_s ? next : until_s;
}

static void pass(int busy, double until_s, double dynamic_w) {
    State *s = gpu();
    while (s->now_s < until_s) {
        if (busy) s->worked_s = s->now_s;
        follow(s->now_s);
        double until = next_s(until_s);
        step(busy, until - s->now_s, dynamic_w);
        if (until >= until_s) s->now_s = until_s;
    }
    follow(s->now_s);
}

static void rest(void) {
    double now_s = amble_card_now();
    if (now_s > gpu()->now_s) gpu()->cap_mhz = 0;
    pass(0, now_s, 0.0);
}

/* For the runner: the clocks that really run at a time of the card; it has rested until then. */
void amble_card_clocks(double at_s, int working, double *core_mhz, double *memory_mhz) {
    enter();
    State *s = gpu();
    if (at_s > s->now_s) pass(0, at_s, 0.0);
    if (working) s->worked_s = s->now_s;
    s->cap_mhz = 0;
    follow(s->now_s);
    *core_mhz = running_mhz(CORE, s->now_s);
    *memory_mhz = running_mhz(MEMORY, s->now_s);
    leave();
}
/* For the runner: work from now on, for a while, at no more than `cap_mhz`; returns the joules that it took. */
double amble_card_work(double duration_s, double dynamic_j, double cap_mhz) {
    enter();
    State *s = gpu();
    double before_j = s->energy_j;
    s->cap_mhz = cap_mhz;
    if (duration_s > 0) pass(1, s->now_s + duration_s, dynamic_j / duration_s);
    double spent_j = s->energy_j - before_j;
    leave();
    return spent_j;
}
/* For the card's clock, where its time moves only when it is told to. */
void amble_card_idle(double until_s) {
    enter();
    gpu()->cap_mhz = 0;
    pass(0, until_s, 0.0);
    leave();
}

static void take(int domain) { /* a setting's call blocks its caller */
    State *s = gpu();
    double call_s = s->call_s[domain];
    if (call_s <= 0) return;
    if (s->factor <= 0) { amble_card_idle(s->now_s + call_s); return; }
    double wall_s = call_s * s->factor;
    struct timespec wait = {(time_t)wall_s, (long)((wall_s - floor(wall_s)) * 1e9)};
    nanosleep(&wait, NULL);
}

/* --- NVML -------------------------------------------------------------------------------------------------------- */

static int text(char *out, unsigned size, const char *value) {
    if (strlen(value) >= size) return SMALL;
    strcpy(out, value);
    return OK;
}
int nvmlInitWithFlags(unsigned flags) { (void)flags; return gpu() ? OK : NO_DRIVER; }
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) {
    return code == NO_PERMISSION ? "Insufficient Permissions" : code == LOST ? "GPU is lost" : "an error";
}
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    if (index) return INVALID;
    if (gpu()->lost) return LOST;
    *device = gpu();
    return OK;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    if (strcmp(uuid, gpu()->uuid)) return NOT_FOUND;
    if (gpu()->lost) return LOST;
    *device = gpu();
    return OK;
}
int nvmlDeviceGetName(void *d, char *name, unsigned size) { (void)d; return text(name, size, gpu()->name); }
int nvmlDeviceGetUUID(void *d, char *uuid, unsigned size) { (void)d; return text(uuid, size, gpu()->uuid); }
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
static int descending(const unsigned *levels, unsigned have, unsigned *count, unsigned *clocks) {
    if (!clocks || *count < have) { *count = have; return SMALL; }
    *count = have;
    for (unsigned level = 0; level < have; level++) clocks[level] = levels[have - 1 - level];
    return OK;
}
int nvmlDeviceGetSupportedMemoryClocks(void *d, unsigned *count, unsigned *clocks) {
    (void)d;
    ASKED(nvmlDeviceGetSupportedMemoryClocks);
    return descending(gpu()->memory_mhz, gpu()->num_memories, count, clocks);
}
int nvmlDeviceGetSupportedGraphicsClocks(void *d, unsigned memory, unsigned *count, unsigned *clocks) {
    (void)d;
    for (unsigned level = 0; level < gpu()->num_memories; level++)
        if (gpu()->memory_mhz[level] == memory) return descending(gpu()->core_mhz, gpu()->num_cores, count, clocks);
    return NOT_FOUND;
}
int nvmlDeviceGetClockInfo(void *d, unsigned type, unsigned *mhz) {
    (void)d;
    ASKED(nvmlDeviceGetClockInfo);
    enter();
    rest();
    int domain = type == 2 ? MEMORY : CORE, locked = domain == CORE ? gpu()->core_lock : gpu()->memory_lock;
    double now = running_mhz(domain, gpu()->now_s);
    if (locked && !gpu()->honest && domain == MEMORY) now = locked;
    if (locked && !gpu()->honest && domain == CORE && gpu()->drift_mhz_per_s <= 0) now = capped_mhz(locked);
    *mhz = (unsigned)lround(now);
    leave();
    return OK;
}
int nvmlDeviceGetApplicationsClock(void *d, unsigned type, unsigned *mhz) {
    (void)d;
    ASKED(nvmlDeviceGetApplicationsClock);
    *mhz = type == 2 ? gpu()->app_memory : gpu()->app_core;
    return OK;
}
static void begin_setting(void) {
    enter();
    rest();
    gpu()->num_sets++;
    if (gpu()->lost_after && gpu()->num_sets >= gpu()->lost_after) gpu()->lost = 1;
    gpu()->locked_s = gpu()->now_s;
}
static void end_setting(int domain) {
    follow(gpu()->now_s);
    leave();
    take(domain);
}
int nvmlDeviceSetApplicationsClocks(void *d, unsigned memory, unsigned core) {
    (void)d;
    ASKED(nvmlDeviceSetApplicationsClocks);
    if (gpu()->architecture >= 9) return NOT_SUPPORTED;
    begin_setting();
    gpu()->app_memory = memory;
    gpu()->app_core = core;
    end_setting(CORE);
    return OK;
}
static int lock_clock(int domain, unsigned low, unsigned high, unsigned needs) {
    if (gpu()->architecture < needs) return NOT_SUPPORTED;
    if (low != high) return INVALID;
    begin_setting();
    *(domain == CORE ? &gpu()->core_lock : &gpu()->memory_lock) = high;
    end_setting(domain);
    return OK;
}
int nvmlDeviceSetGpuLockedClocks(void *d, unsigned low, unsigned high) {
    (void)d;
    ASKED(nvmlDeviceSetGpuLockedClocks);
    return lock_clock(CORE, low, high, 5);
}
int nvmlDeviceResetGpuLockedClocks(void *d) {
    (void)d;
    ASKED(nvmlDeviceResetGpuLockedClocks);
    return lock_clock(CORE, 0, 0, 5);
}
int nvmlDeviceSetMemoryLockedClocks(void *d, unsigned low, unsigned high) {
    (void)d;
    ASKED(nvmlDeviceSetMemoryLockedClocks);
    return lock_clock(MEMORY, low, high, 7);
}
int nvmlDeviceResetMemoryLockedClocks(void *d) {
    (void)d;
    ASKED(nvmlDeviceResetMemoryLockedClocks);
    return lock_clock(MEMORY, 0, 0, 7);
}
int nvmlDeviceGetEnforcedPowerLimit(void *d, unsigned *mw) {
    (void)d;
    ASKED(nvmlDeviceGetEnforcedPowerLimit);
    *mw = gpu()->limit_mw;
    return OK;
}
int nvmlDeviceGetPowerManagementLimit(void *d, unsigned *mw) {
    (void)d;
    ASKED(nvmlDeviceGetPowerManagementLimit);
    *mw = gpu()->management_mw;
    return OK;
}
int nvmlDeviceGetPowerManagementDefaultLimit(void *d, unsigned *mw) {
    (void)d;
    ASKED(nvmlDeviceGetPowerManagementDefaultLimit);
    *mw = gpu()->limit_default_mw;
    return OK;
}
int nvmlDeviceGetPowerManagementLimitConstraints(void *d, unsigned *low, unsigned *high) {
    (void)d;
    ASKED(nvmlDeviceGetPowerManagementLimitConstraints);
    if (!gpu()->limit_high_mw) return NOT_SUPPORTED;
    *low = gpu()->limit_low_mw;
    *high = gpu()->limit_high_mw;
    return OK;
}
int nvmlDeviceSetPowerManagementLimit(void *d, unsigned mw) {
    (void)d;
    ASKED(nvmlDeviceSetPowerManagementLimit);
    if (mw < gpu()->limit_low_mw || mw > gpu()->limit_high_mw) return INVALID;
    begin_setting();
    gpu()->limit_mw = gpu()->management_mw = mw;
    end_setting(CORE);
    return OK;
}
int nvmlDeviceGetPowerUsage(void *d, unsigned *mw) {
    (void)d;
    ASKED(nvmlDeviceGetPowerUsage);
    enter();
    rest();
    *mw = (unsigned)(1e3 * gpu()->power_w);
    leave();
    return OK;
}
typedef struct {
    unsigned field, scope;
    long long at_us, latency_us;
    unsigned type, code;
    union { double number; unsigned value; unsigned long long wide; };
} Field;
int nvmlDeviceGetFieldValues(void *d, int count, Field *fields) {
    (void)d;
    ASKED(nvmlDeviceGetFieldValues);
    for (int each = 0; each < count; each++) {
        fields[each].code = fields[each].field == POWER_INSTANT ? OK : NOT_SUPPORTED;
        if (fields[each].field == POWER_INSTANT) fields[each].code = nvmlDeviceGetPowerUsage(d, &fields[each].value);
    }
    return OK;
}
int nvmlDeviceGetTotalEnergyConsumption(void *d, unsigned long long *mj) {
    (void)d;
    ASKED(nvmlDeviceGetTotalEnergyConsumption);
    enter();
    rest();
    State *s = gpu();
    double told = 1e3 * s->latched_j + s->jump_mj;
    if (s->stalled && s->stalled_mj <= 0) s->stalled_mj = told;
    if (!s->stalled) s->stalled_mj = 0;
    if (s->stalled) told = s->stalled_mj;
    if (s->wrap_mj > 0) told = fmod(told, s->wrap_mj);
    *mj = (unsigned long long)told;
    leave();
    return OK;
}
static unsigned long long reasons(void) {
    State *s = gpu();
    return s->reasons | (s->cap_mhz > 0 ? 0x4 : 0) | (s->heat_cap ? 0x20 : 0);
}
int nvmlDeviceGetCurrentClocksEventReasons(void *d, unsigned long long *told) {
    (void)d;
    ASKED(nvmlDeviceGetCurrentClocksEventReasons);
    *told = reasons();
    return OK;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void *d, unsigned long long *told) {
    (void)d;
    ASKED(nvmlDeviceGetCurrentClocksThrottleReasons);
    *told = reasons();
    return OK;
}
static unsigned celsius(void) { return gpu()->temperature ? gpu()->temperature : (unsigned)gpu()->temperature_c; }
typedef struct { unsigned version, sensor; int temperature; } Temperature;
int nvmlDeviceGetTemperatureV(void *d, Temperature *temperature) {
    (void)d;
    ASKED(nvmlDeviceGetTemperatureV);
    temperature->temperature = (int)celsius();
    return OK;
}
int nvmlDeviceGetTemperature(void *d, unsigned sensor, unsigned *told) {
    (void)d; (void)sensor;
    ASKED(nvmlDeviceGetTemperature);
    *told = celsius();
    return OK;
}
