/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * window.bpf.c - record what decides whether a new thread can be hit by a signal before it is ready.
 *
 * The kernel side only records: birth, mask, alternate stack, dispositions, generation and delivery of
 * signals, and the end of a thread, each with the state that the kernel itself holds at that moment.
 * What a window or an exposure is, is decided in user space (analysis/engine/).
 *
 * Compiled by bcc. No kernel header's struct is used: the offsets (OFF_*) and sizes (SIZE_*) come from BTF at
 * load time (probes/btf.py), since the headers at hand may be those of another kernel.
 *
 * Options, all given with -D: RING_PAGES, TRACE_ALL, FOLLOW, STACKS, HAVE_TASK_PT_REGS.
 */
#include <uapi/linux/ptrace.h>
#include "event.h"

/* The kernel's ABI, stable where BTF says nothing about it: signal.h, sched.h. */
#define SIGNALS 64
#define SIG_DFL_ADDRESS 0UL
#define SIG_IGN_ADDRESS 1UL
#define SA_ONSTACK_FLAG 0x08000000UL
#define SA_NODEFER_FLAG 0x40000000UL
#define UNBLOCKABLE ((1UL << (9 - 1)) | (1UL << (19 - 1)))
#define SS_DISABLE_FLAG 2
#define CLONE_THREAD_FLAG 0x00010000UL
#define WORKER_FLAGS (0x10 | 0x4000) /* PF_IO_WORKER, PF_USER_WORKER (6.4) */
#define SIGNAL_GROUP_EXIT_FLAG 0x4
#define PIDTYPE_PID_VALUE 0

BPF_RINGBUF_OUTPUT(events, RING_PAGES);

/* Traced thread groups. Keyed by tgid; the loader adds the first ones, births the descendants. */
BPF_HASH(targets, u32, u8, 65536);

/* Records that found no room: counted here and nowhere else. */
struct loss {
	u64 count;
	u64 first_ns;
	u64 last_ns;
};
BPF_PERCPU_ARRAY(losses, struct loss, 1);

/* The process's 64 dispositions are copied here at once; 2 KiB is too much for the stack. */
struct actions {
	char bytes[SIGNALS * SIZE_k_sigaction];
};
BPF_PERCPU_ARRAY(scratch, struct actions, 1);

#ifdef STACKS
BPF_STACK_TRACE(stacks, 16384);
#endif

#define FIELD(type, base, offset)                                                          \
	({                                                                                 \
		type value_ = 0;                                                           \
		bpf_probe_read_kernel(&value_, sizeof(value_), (void *)(base) + (offset)); \
		value_;                                                                    \
	})

static __always_inline int traced(u32 tgid)
{
#ifdef TRACE_ALL
	u8 *own = targets.lookup(&tgid); /* with TRACE_ALL the map names what to leave out: the tracer */
	return own == 0;
#else
	return targets.lookup(&tgid) != 0;
#endif
}

static __always_inline int lose(void)
{
	int zero = 0;
	struct loss *loss = losses.lookup(&zero);

	if (loss) {
		u64 now = bpf_ktime_get_ns();
		if (loss->count == 0)
			loss->first_ns = now;
		loss->last_ns = now;
		loss->count++;
	}
	return 0;
}

/*
 * The clock is read after the reservation. A reader that notes the time before it looks at the
 * producer's position then knows that every later record is later in time, too (probes/ring.py).
 */
static __always_inline struct event *reserve(void *task, u8 kind)
{
	struct event *event = events.ringbuf_reserve(sizeof(*event));

	if (!event) {
		lose();
		return 0;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->time_ns = bpf_ktime_get_ns();
	event->kind = kind;
	event->pid = FIELD(s32, task, OFF_task_struct_tgid);
	event->tid = FIELD(s32, task, OFF_task_struct_pid);
	event->mask = FIELD(u64, task, OFF_task_struct_blocked);
	event->altstack = FIELD(u64, task, OFF_task_struct_sas_ss_size) != 0;
	return event;
}

static __always_inline int submit(struct event *event)
{
	events.ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}

static __always_inline void read_comm(struct event *event, void *task)
{
	bpf_probe_read_kernel(event->comm, sizeof(event->comm), task + OFF_task_struct_comm);
}

/* Which signals have a user handler, and which of those ask for the alternate stack. */
static __always_inline void read_handled(struct event *event, void *task)
{
	int zero = 0;
	struct actions *copy = scratch.lookup(&zero);
	void *sighand = FIELD(void *, task, OFF_task_struct_sighand);

	if (!copy || !sighand)
		return;
	if (bpf_probe_read_kernel(copy, sizeof(*copy), sighand + OFF_sighand_struct_action))
		return;
	u64 handled = 0, onstack = 0;
#pragma unroll
	for (int i = 0; i < SIGNALS; i++) {
		u64 handler = *(u64 *)(copy->bytes + i * SIZE_k_sigaction + OFF_sigaction_sa_handler);
		u64 flags = *(u64 *)(copy->bytes + i * SIZE_k_sigaction + OFF_sigaction_sa_flags);
		if (handler > SIG_IGN_ADDRESS) {
			handled |= 1UL << i;
			if (flags & SA_ONSTACK_FLAG)
				onstack |= 1UL << i;
		}
	}
	event->handled = handled;
	event->onstack = onstack;
}

static __always_inline u8 disposition_of(u64 handler)
{
	return handler == SIG_DFL_ADDRESS ? 0 : handler == SIG_IGN_ADDRESS ? 1 : 2;
}

static __always_inline u32 current_tgid(void)
{
	return bpf_get_current_pid_tgid() >> 32;
}

/* The registers that user space entered the kernel with; a system call's arguments are still in them at its exit. */
static __always_inline void *user_registers(void)
{
#ifdef HAVE_TASK_PT_REGS
	return (void *)bpf_task_pt_regs((void *)bpf_get_current_task_btf());
#else
	/* Before 5.15: the top of the kernel stack, task_pt_regs() of arch/x86/include/asm/processor.h. */
	void *stack = FIELD(void *, bpf_get_current_task(), OFF_task_struct_stack);
	return stack + (4 << 12) - sizeof(struct pt_regs);
#endif
}

#if defined(__x86_64__)
#define FIRST_ARGUMENT FIELD(u64, user_registers(), offsetof(struct pt_regs, di))
#define SECOND_ARGUMENT FIELD(u64, user_registers(), offsetof(struct pt_regs, si))
/* struct rt_sigframe: the return address is popped, sp is at the ucontext (arch/x86/kernel/signal_64.c). */
#define UCONTEXT(sp) (sp)
#define UCONTEXT_SIGMASK 296
#define STACK_POINTER offsetof(struct pt_regs, sp)
#elif defined(__aarch64__)
#define FIRST_ARGUMENT FIELD(u64, user_registers(), offsetof(struct pt_regs, orig_x0))
#define SECOND_ARGUMENT FIELD(u64, user_registers(), offsetof(struct pt_regs, regs[1]))
/* struct rt_sigframe begins with a siginfo of 128 bytes (arch/arm64/kernel/signal.c). */
#define UCONTEXT(sp) ((sp) + 128)
#define UCONTEXT_SIGMASK 40
#define STACK_POINTER offsetof(struct pt_regs, sp)
#else
#error "sigwindow knows the signal frame of x86-64 and arm64 only"
#endif
#define UCONTEXT_STACK_FLAGS 24
#define UCONTEXT_STACK_SIZE 32

/* ---- births and ends -------------------------------------------------------------------- */

/* TP_PROTO(struct task_struct *task, u64 clone_flags). The creator is current; the child has not run. */
RAW_TRACEPOINT_PROBE(task_newtask)
{
	void *task = (void *)ctx->args[0];
	u64 clone_flags = ctx->args[1];
	u32 creator = current_tgid();

	if (!traced(creator))
		return 0;
	u32 tgid = FIELD(u32, task, OFF_task_struct_tgid);
	if (!(clone_flags & CLONE_THREAD_FLAG)) {
#ifndef TRACE_ALL
#ifdef FOLLOW
		u8 one = 1;
		targets.update(&tgid, &one);
#else
		return 0;
#endif
#endif
	}
	struct event *event = reserve(task, KIND_born);
	if (!event)
		return 0;
	read_handled(event, task);
	read_comm(event, task);
	event->peer = (u32)bpf_get_current_pid_tgid();
	event->flags = (u32)clone_flags & ~0xffU; /* the exit signal's byte is ours */
	if (FIELD(u32, task, OFF_task_struct_flags) & WORKER_FLAGS)
		event->flags |= BORN_KERNEL_WORKER;
	event->stack = -1;
#ifdef STACKS
	event->stack = stacks.get_stackid(ctx, BPF_F_USER_STACK);
#endif
	return submit(event);
}

/* TP_PROTO(struct task_struct *task, const char *comm): before the name is copied into the task. */
RAW_TRACEPOINT_PROBE(task_rename)
{
	void *task = (void *)ctx->args[0];

	if (!traced(FIELD(u32, task, OFF_task_struct_tgid)))
		return 0;
	struct event *event = reserve(task, KIND_name);
	if (!event)
		return 0;
	bpf_probe_read_kernel_str(event->comm, sizeof(event->comm), (void *)ctx->args[1]);
	return submit(event);
}

/* TP_PROTO(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm) */
RAW_TRACEPOINT_PROBE(sched_process_exec)
{
	void *task = (void *)ctx->args[0];

	if (!traced(FIELD(u32, task, OFF_task_struct_tgid)))
		return 0;
	struct event *event = reserve(task, KIND_exec);
	if (!event)
		return 0;
	read_handled(event, task);
	read_comm(event, task);
	event->peer = (s32)ctx->args[1];
	return submit(event);
}

/* TP_PROTO(struct task_struct *p, ...), in the ending thread's own context. */
RAW_TRACEPOINT_PROBE(sched_process_exit)
{
	void *task = (void *)ctx->args[0];

	if (!traced(FIELD(u32, task, OFF_task_struct_tgid)))
		return 0;
	struct event *event = reserve(task, KIND_exit);
	if (!event)
		return 0;
	void *signal = FIELD(void *, task, OFF_task_struct_signal);
	if (FIELD(u32, signal, OFF_signal_struct_flags) & SIGNAL_GROUP_EXIT_FLAG)
		event->flags = EXIT_GROUP;
	return submit(event);
}

#ifndef TRACE_ALL
/*
 * TP_PROTO(struct task_struct *p). A leader is freed after its last thread, and its pid can't be used
 * again before: the one safe moment to forget a process.
 */
RAW_TRACEPOINT_PROBE(sched_process_free)
{
	void *task = (void *)ctx->args[0];
	u32 tgid = FIELD(u32, task, OFF_task_struct_tgid);

	if (FIELD(u32, task, OFF_task_struct_pid) == tgid)
		targets.delete(&tgid);
	return 0;
}
#endif

/* ---- the thread's own set-up ------------------------------------------------------------ */

TRACEPOINT_PROBE(syscalls, sys_exit_rt_sigprocmask)
{
	if (args->ret != 0 || !traced(current_tgid()))
		return 0;
	if (!SECOND_ARGUMENT) /* set == NULL only asks */
		return 0;
	struct event *event = reserve((void *)bpf_get_current_task(), KIND_mask);
	return event ? submit(event) : 0;
}

TRACEPOINT_PROBE(syscalls, sys_exit_sigaltstack)
{
	if (args->ret != 0 || !traced(current_tgid()))
		return 0;
	if (!FIRST_ARGUMENT)
		return 0;
	struct event *event = reserve((void *)bpf_get_current_task(), KIND_altstack);
	return event ? submit(event) : 0;
}

TRACEPOINT_PROBE(syscalls, sys_exit_rt_sigaction)
{
	if (args->ret != 0 || !traced(current_tgid()))
		return 0;
	if (!SECOND_ARGUMENT)
		return 0;
	void *task = (void *)bpf_get_current_task();
	u64 signal = FIRST_ARGUMENT;
	struct event *event = reserve(task, KIND_action);
	if (!event)
		return 0;
	read_handled(event, task);
	event->signal = signal;
	void *sighand = FIELD(void *, task, OFF_task_struct_sighand);
	void *action = sighand + OFF_sighand_struct_action + (signal - 1) * SIZE_k_sigaction;
	event->disposition = disposition_of(FIELD(u64, action, OFF_sigaction_sa_handler));
	event->sa_flags = FIELD(u64, action, OFF_sigaction_sa_flags);
	return submit(event);
}

/* ---- signals ---------------------------------------------------------------------------- */

/* TP_PROTO(int sig, struct kernel_siginfo *info, struct task_struct *task, int type, int result) */
RAW_TRACEPOINT_PROBE(signal_generate)
{
	void *task = (void *)ctx->args[2];

	if (!traced(FIELD(u32, task, OFF_task_struct_tgid)))
		return 0;
	struct event *event = reserve(task, KIND_generate);
	if (!event)
		return 0;
	event->signal = ctx->args[0];
	event->peer = (u32)bpf_get_current_pid_tgid();
	event->flags = (u32)ctx->args[4] & GENERATE_RESULT;
	if ((int)ctx->args[3] != PIDTYPE_PID_VALUE)
		event->flags |= GENERATE_PROCESS;
	return submit(event);
}

/*
 * TP_PROTO(int sig, struct kernel_siginfo *info, struct k_sigaction *ka), before the handler's frame is made. The mask that
 * the handler runs with is that of signal_delivered(), kernel/signal.c.
 */
RAW_TRACEPOINT_PROBE(signal_deliver)
{
	if (!traced(current_tgid()))
		return 0;
	u64 signal = ctx->args[0];
	void *action = (void *)ctx->args[2];
	struct event *event = reserve((void *)bpf_get_current_task(), KIND_deliver);
	if (!event)
		return 0;
	event->signal = signal;
	event->disposition = disposition_of(FIELD(u64, action, OFF_sigaction_sa_handler));
	event->sa_flags = FIELD(u64, action, OFF_sigaction_sa_flags);
	if (event->disposition == 2) {
		event->mask |= FIELD(u64, action, OFF_sigaction_sa_mask) & ~UNBLOCKABLE;
		if (!(event->sa_flags & SA_NODEFER_FLAG))
			event->mask |= 1UL << ((signal - 1) & 63);
	}
	return submit(event);
}

/*
 * sys_exit never fires for rt_sigreturn (restore_sigcontext() sets orig_ax to -1), so the mask and the stack that it is
 * about to restore are read from the frame, where the kernel will read them.
 */
TRACEPOINT_PROBE(syscalls, sys_enter_rt_sigreturn)
{
	if (!traced(current_tgid()))
		return 0;
	u64 frame = UCONTEXT(FIELD(u64, user_registers(), STACK_POINTER));
	u64 mask = 0, size = 0;
	u32 flags = 0;
	struct event *event = reserve((void *)bpf_get_current_task(), KIND_return);
	if (!event)
		return 0;
	if (bpf_probe_read_user(&mask, sizeof(mask), (void *)frame + UCONTEXT_SIGMASK) ||
	    bpf_probe_read_user(&flags, sizeof(flags), (void *)frame + UCONTEXT_STACK_FLAGS) ||
	    bpf_probe_read_user(&size, sizeof(size), (void *)frame + UCONTEXT_STACK_SIZE)) {
		/* The page is not there: what the mask becomes can't be told. */
		events.ringbuf_discard(event, BPF_RB_NO_WAKEUP);
		return lose();
	}
	event->mask = mask & ~UNBLOCKABLE;
	event->altstack = size != 0 && !(flags & SS_DISABLE_FLAG);
	return submit(event);
}

/* ---- --ready symbol:NAME ---------------------------------------------------------------- */

#ifdef MARK
int mark(struct pt_regs *ctx)
{
	if (!traced(current_tgid()))
		return 0;
	struct event *event = reserve((void *)bpf_get_current_task(), KIND_mark);
	return event ? submit(event) : 0;
}
#endif
