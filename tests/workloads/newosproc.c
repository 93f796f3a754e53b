/* The crash of Go's newosproc and its cure: N threads made by raw clone, each with its setup window in the open.
 *
 * USAGE: newosproc broken|fixed [-n THREADS] [-s SPIN_US] [-t] [-p PERIOD_US] [-r SECONDS] [-o TRUTH]
 *
 *   broken  nothing is blocked around clone
 *   fixed   the creator blocks all signals around clone; the child lifts that once its alternate stack is in
 *   -n      threads to create, one after another (499)
 *   -s      each burns this long before it installs its alternate stack (50)
 *   -t, -p  SIGPROF by ITIMER_PROF, and its period (1000); the kernel rounds it up to its tick
 *   -r      create threads for so long, or until SIGTERM, instead of a fixed number
 *   -o      write what happened, by the program's own record
 *
 * TRUTH: `# newosproc 1 MODE PID`, then one line for each of the first million threads and of the handler's runs
 *   thread TID before_clone_ns first_ns before_altstack_ns after_altstack_ns after_mask_ns birth_mask
 *   handler TID time_ns signal installed
 * and `# end`. Times are CLOCK_MONOTONIC; birth_mask is hexadecimal; installed says whether that thread had an
 * alternate stack at the time, by the kernel's word.
 */
#include "workload.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/time.h>

enum { MAX_RECORDS = 1000000 };

struct birth {
    pid_t tid;
    int64_t before_clone_ns, first_ns, before_altstack_ns, after_altstack_ns, after_mask_ns;
    uint64_t mask;
};

struct handler_run {
    pid_t tid;
    int64_t time_ns;
    int signal;
    bool installed;
};

static bool fixed;
static long threads = 499, spin_us = 50, period_us = 1000, repeat_s;
static bool timer;
static const char *truth_path;

static struct birth *births;
static struct handler_run *runs;
static atomic_long run_count;
static atomic_bool stop;

static struct raw_thread thread;
static uint64_t creators_mask;

static void on_signal(int signal, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    int64_t time_ns = now_ns();
    stack_t alternate;
    syscall(SYS_sigaltstack, NULL, &alternate);
    long i = atomic_fetch_add(&run_count, 1);
    if (i < MAX_RECORDS)
        runs[i] = (struct handler_run){syscall(SYS_gettid), time_ns, signal, !(alternate.ss_flags & SS_DISABLE)};
    if (signal == SIGTERM)
        stop = true;
}

static int child(void *argument)
{
    struct birth *birth = argument;
    birth->first_ns = now_ns();
    spin_until(birth->first_ns + spin_us * 1000);
    birth->before_altstack_ns = now_ns();
    set_altstack(thread.altstack);
    birth->after_altstack_ns = now_ns();
    set_mask(SIG_SETMASK, fixed ? &creators_mask : &NO_SIGNALS, &birth->mask);
    birth->after_mask_ns = now_ns();
    return 0;
}

static void newosproc(struct birth *birth)
{
    if (fixed)
        set_mask(SIG_SETMASK, &ALL_SIGNALS, &creators_mask);
    birth->before_clone_ns = now_ns();
    birth->tid = create(&thread, child, birth);
    if (fixed)
        set_mask(SIG_SETMASK, &creators_mask, NULL);
    wait_for(&thread);
}

static void set_timer(long us)
{
    struct timeval period = {us / 1000000, us % 1000000};
    struct itimerval every = {period, period};
    if (setitimer(ITIMER_PROF, &every, NULL) != 0)
        die("setitimer");
}

static void *table(size_t rows, size_t row_bytes)
{
    void *memory = calloc(rows, row_bytes); /* pages that no record reaches cost nothing */
    if (memory == NULL)
        die("calloc");
    return memory;
}

static void write_truth(long born)
{
    FILE *out = fopen(truth_path, "w");
    if (out == NULL)
        die(truth_path);
    fprintf(out, "# newosproc 1 %s %d\n", fixed ? "fixed" : "broken", getpid());
    for (struct birth *b = births; b < births + born; b++)
        fprintf(out, "thread %d %jd %jd %jd %jd %jd %jx\n", b->tid, (intmax_t)b->before_clone_ns,
                (intmax_t)b->first_ns, (intmax_t)b->before_altstack_ns, (intmax_t)b->after_altstack_ns,
                (intmax_t)b->after_mask_ns, (uintmax_t)b->mask);
    long ran = run_count < MAX_RECORDS ? run_count : MAX_RECORDS;
    for (struct handler_run *r = runs; r < runs + ran; r++)
        fprintf(out, "handler %d %jd %d %d\n", r->tid, (intmax_t)r->time_ns, r->signal, r->installed);
    fputs("# end\n", out);
    if (fclose(out) != 0)
        die(truth_path);
}

static _Noreturn void usage(void)
{
    fputs("usage: newosproc broken|fixed [-n THREADS] [-s SPIN_US] [-t] [-p PERIOD_US] [-r SECONDS] [-o TRUTH]\n",
          stderr);
    exit(2);
}

static void read_options(int argc, char **argv)
{
    if (argc < 2 || (strcmp(argv[1], "broken") != 0 && strcmp(argv[1], "fixed") != 0))
        usage();
    fixed = strcmp(argv[1], "fixed") == 0;
    for (int option; (option = getopt(argc - 1, argv + 1, "n:s:tp:r:o:")) != -1;) {
        switch (option) {
        case 'n': threads = number(optarg); break;
        case 's': spin_us = number(optarg); break;
        case 't': timer = true; break;
        case 'p': period_us = number(optarg); break;
        case 'r': repeat_s = number(optarg); break;
        case 'o': truth_path = optarg; break;
        default: usage();
        }
    }
    if (optind != argc - 1)
        usage();
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    births = table(MAX_RECORDS, sizeof *births);
    runs = table(MAX_RECORDS, sizeof *runs);
    thread = (struct raw_thread){new_stack(), new_stack(), 0};

    set_altstack(new_stack()); /* the main thread is ready before the first handler is in */
    handle(SIGPROF, on_signal);
    handle(SIGUSR1, on_signal);
    if (repeat_s)
        handle(SIGTERM, on_signal);
    if (timer)
        set_timer(period_us);

    int64_t deadline_ns = now_ns() + repeat_s * INT64_C(1000000000);
    struct birth unrecorded;
    long born = 0;
    for (; repeat_s ? !stop && now_ns() < deadline_ns : born < threads; born++)
        newosproc(born < MAX_RECORDS ? &births[born] : &unrecorded);

    if (timer)
        set_timer(0);
    if (truth_path)
        write_truth(born < MAX_RECORDS ? born : MAX_RECORDS);
    return 0;
}
