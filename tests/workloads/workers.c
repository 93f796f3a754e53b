/* Worker threads of an ordinary pthread program, and who blocks the signals that they do not want.
 *
 * USAGE: workers plain|self|creator [-n THREADS] [-s SPIN_US] [-o TRUTH]
 *
 *   plain    nobody: the workers take signals like any other thread
 *   self     each worker itself, after it has burned SPIN_US (300): nanomsg before its pull request 249
 *   creator  the creator, around pthread_create, for the workers to inherit: nanomsg after it
 *   -n       workers to create, one after another (101)
 *   -o       write what happened, by the program's own record
 *
 * TRUTH: `# workers 1 MODE PID`, one line a worker, and `# end`:
 *   thread TID before_create_ns first_ns before_mask_ns after_mask_ns
 * Times are CLOCK_MONOTONIC; the last two bracket the worker's own pthread_sigmask and are 0 where it makes none.
 */
#include "workload.h"
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

enum { WORK_US = 500 }; /* what a worker does once it is set up: sleep */

struct worker {
    pid_t tid;
    int64_t before_create_ns, first_ns, before_mask_ns, after_mask_ns;
};

static const char *mode;
static bool self, creator;
static long threads = 101, spin_us = 300;
static const char *truth_path;

static void on_signal(int signal)
{
    (void)signal;
}

static void block_all(sigset_t *old)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, old);
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    worker->first_ns = now_ns();
    worker->tid = syscall(SYS_gettid);
    if (self) {
        spin_until(worker->first_ns + spin_us * 1000);
        worker->before_mask_ns = now_ns();
        block_all(NULL);
        worker->after_mask_ns = now_ns();
    }
    usleep(WORK_US);
    return NULL;
}

static void run(struct worker *worker)
{
    sigset_t old;
    pthread_t thread;
    if (creator)
        block_all(&old);
    worker->before_create_ns = now_ns();
    errno = pthread_create(&thread, NULL, work, worker);
    if (errno != 0)
        die("pthread_create");
    if (creator)
        pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_join(thread, NULL);
}

static void write_truth(const struct worker *workers)
{
    FILE *out = fopen(truth_path, "w");
    if (out == NULL)
        die(truth_path);
    fprintf(out, "# workers 1 %s %d\n", mode, getpid());
    for (const struct worker *w = workers; w < workers + threads; w++)
        fprintf(out, "thread %d %jd %jd %jd %jd\n", w->tid, (intmax_t)w->before_create_ns, (intmax_t)w->first_ns,
                (intmax_t)w->before_mask_ns, (intmax_t)w->after_mask_ns);
    fputs("# end\n", out);
    if (fclose(out) != 0)
        die(truth_path);
}

static _Noreturn void usage(void)
{
    fputs("usage: workers plain|self|creator [-n THREADS] [-s SPIN_US] [-o TRUTH]\n", stderr);
    exit(2);
}

static void read_options(int argc, char **argv)
{
    mode = argc > 1 ? argv[1] : "";
    self = strcmp(mode, "self") == 0;
    creator = strcmp(mode, "creator") == 0;
    if (!self && !creator && strcmp(mode, "plain") != 0)
        usage();
    for (int option; (option = getopt(argc - 1, argv + 1, "n:s:o:")) != -1;) {
        switch (option) {
        case 'n': threads = number(optarg); break;
        case 's': spin_us = number(optarg); break;
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
    struct worker *workers = calloc(threads, sizeof *workers);
    if (workers == NULL)
        die("calloc");
    struct sigaction action = {.sa_handler = on_signal};
    if (sigaction(SIGUSR1, &action, NULL) != 0)
        die("sigaction");
    for (struct worker *w = workers; w < workers + threads; w++)
        run(w);
    if (truth_path)
        write_truth(workers);
    return 0;
}
