/* More events than a small buffer holds, in a number that is known exactly.
 *
 * USAGE: flood THREADS SETS
 *
 * THREADS threads are made by raw clone, all alive at once. Each then makes SETS calls of rt_sigprocmask that change
 * its mask, all inside its setup window, installs its alternate stack, and exits. Nothing else sets a mask.
 * Prints `threads T sets S altstacks A`, the numbers of threads made and of successful calls in the whole process; the
 * main thread's own alternate stack is one of A.
 */
#include "workload.h"
#include <limits.h>

static long sets_each;
static volatile int go;

static void on_signal(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info, (void)context;
}

static int child(void *argument)
{
    static const uint64_t usr1 = UINT64_C(1) << (SIGUSR1 - 1);
    struct raw_thread *self = argument;
    while (!go)
        futex_wait(&go, 0);
    for (long i = 0; i < sets_each; i++)
        set_mask(i % 2 ? SIG_UNBLOCK : SIG_BLOCK, &usr1, NULL);
    set_altstack(self->altstack);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fputs("usage: flood THREADS SETS\n", stderr);
        return 2;
    }
    long threads = number(argv[1]);
    sets_each = number(argv[2]);
    struct raw_thread *all = calloc(threads, sizeof *all);
    if (all == NULL)
        die("calloc");
    set_altstack(new_stack());
    handle(SIGUSR1, on_signal);

    for (struct raw_thread *t = all; t < all + threads; t++) {
        t->stack = new_stack();
        t->altstack = new_stack();
        create(t, child, t);
    }
    go = 1;
    syscall(SYS_futex, &go, 1 /* FUTEX_WAKE */, INT_MAX, NULL, NULL, 0);
    for (struct raw_thread *t = all; t < all + threads; t++)
        wait_for(t);
    printf("threads %ld sets %ld altstacks %ld\n", threads, threads * sets_each, threads + 1);
    return 0;
}
