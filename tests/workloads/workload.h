/* What the workloads share: a clock, and threads made by clone alone, as a runtime without a C library makes them.
 *
 * A raw thread runs on its creator's thread-local storage. So between its birth and its exit it may call only what
 * keeps away from it: now_ns(), and syscall() where that can't fail (on failure it would write the creator's errno).
 */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { STACK_BYTES = 256 << 10 }; /* a signal frame with AVX-512 and AMX state takes 11 KiB */

static const uint64_t ALL_SIGNALS = ~UINT64_C(0);
static const uint64_t NO_SIGNALS = 0;

/* CLOCK_MONOTONIC in nanoseconds. */
static inline int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* Burn CPU until the given time. */
static inline void spin_until(int64_t time_ns)
{
    while (now_ns() < time_ns)
        ;
}

static inline _Noreturn void die(const char *what)
{
    perror(what);
    exit(1);
}

/* The number that an option holds; ends the program where it is none. */
static inline long number(const char *text)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (end == text || *end != '\0' || value < 0) {
        fprintf(stderr, "not a number: %s\n", text);
        exit(2);
    }
    return value;
}

/* Set the thread's mask, with no library between: glibc would leave its own two signals out. */
static inline void set_mask(int how, const uint64_t *mask, uint64_t *old)
{
    syscall(SYS_rt_sigprocmask, how, mask, old, sizeof *mask);
}

static inline void *new_stack(void)
{
    void *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED)
        die("mmap");
    return stack;
}

/* Not inlined and not cloned: `--ready symbol:set_altstack` looks for it by name. */
__attribute__((noipa, unused)) static void set_altstack(void *stack)
{
    stack_t alternate = {.ss_sp = stack, .ss_size = STACK_BYTES};
    syscall(SYS_sigaltstack, &alternate, NULL);
}

static inline void handle(int signo, void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_ONSTACK | SA_SIGINFO | SA_RESTART};
    if (sigaction(signo, &action, NULL) != 0)
        die("sigaction");
}

struct raw_thread {
    void *stack, *altstack;
    volatile pid_t alive; /* its tid, until the kernel is done with its stack */
};

/* Create a thread with the flags of Go's newosproc, and those that tell when its stack is free again.
 * clone() of the C library sets registers and nothing else. Returns the thread's id.
 */
static inline pid_t create(struct raw_thread *thread, int (*entry)(void *), void *argument)
{
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_SYSVSEM | CLONE_THREAD |
                CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
    void *word = (void *)&thread->alive;
    pid_t tid = clone(entry, (char *)thread->stack + STACK_BYTES, flags, argument, word, NULL, word);
    if (tid < 0)
        die("clone");
    return tid;
}

static inline void futex_wait(volatile void *word, int while_it_is)
{
    syscall(SYS_futex, word, 0 /* FUTEX_WAIT */, while_it_is, NULL, NULL, 0);
}

/* Sleep until the thread is gone. */
static inline void wait_for(struct raw_thread *thread)
{
    pid_t tid;
    while ((tid = thread->alive) != 0)
        futex_wait(&thread->alive, tid);
}

#endif
