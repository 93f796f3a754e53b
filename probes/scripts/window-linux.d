#!/usr/sbin/dtrace -s
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * window-linux.d - the twin of window.d for Linux DTrace 2 on x86-64: the same lines of the same protocol.
 *
 * USAGE: dtrace -q -s window-linux.d PID > lines 2> errors	(as root)
 *
 * D has no loop to read 64 dispositions with: the handled set is kept from the process's sigactions on, so it is right
 * from the first exec in the trace, and unknown (empty) for what was installed before. Everything else is the kernel's
 * own word. Never start it with -p or -c: both ptrace the process.
 *
 * LINE: E time_ns kind pid tid mask mask_hi altstack handled handled_hi onstack onstack_hi
 *         signal disposition sa_flags peer flags comm .
 */
#pragma D option quiet
#pragma D option bufsize=4m
#pragma D option switchrate=20hz

inline int TARGET = $1;
inline uint64_t ONSTACK = 0x08000000;
inline uint64_t NODEFER = 0x40000000;
inline uint64_t RESETHAND = 0x80000000;
inline uint64_t UNBLOCKABLE = 0x40100;	/* KILL and STOP */
inline int CLONE_THREAD = 0x10000;
inline int WORKER = 0x4010;	/* PF_USER_WORKER, PF_IO_WORKER */
inline int GROUP_EXIT = 0x4;		/* SIGNAL_GROUP_EXIT */
inline int SS_DISABLE_ = 2;

uint64_t handled, onstack;

BEGIN
{
	this->uts = &curthread->nsproxy->uts_ns->name;
	started = timestamp;
	handled = 0;
	onstack = 0;
	printf("sigwindow-lines 1 tracer=dtrace os=linux signals=linux clock=CLOCK_MONOTONIC");
	printf(" time_ns=%d wall_ns=%d", timestamp, walltimestamp);
	printf(" target=%d follow=0 arch=%s kernel=%s host=%s\n", TARGET, stringof(this->uts->machine),
	    stringof(this->uts->release), stringof(this->uts->nodename));
	printf("sigwindow-ready\n");	/* BEGIN comes after all probes are in */
}

/* ---- threads from before the trace: told of when they first act --------------------------- */
syscall::rt_sigprocmask:entry, syscall::sigaltstack:entry, syscall::clone:entry, syscall::clone3:entry
/pid == TARGET && !self->known && curthread->start_time < started/
{
	self->known = 1;
	@lines = count();
	printf("E %d snapshot %d %d 0x%x 0 %d 0x%x 0 0x%x 0 0 0 0 0 0 0x%x:0x%x .\n", timestamp, pid, tid,
	    (uint64_t)curthread->blocked.sig[0], curthread->sas_ss_size != 0, handled, onstack,
	    *(uint64_t *)curthread->comm, *(uint64_t *)(curthread->comm + 8));
}

/* ---- births and ends ---------------------------------------------------------------------- */
/* task_newtask(task, clone_flags): the creator is current. */
rawtp:::task_newtask
/pid == TARGET && (arg1 & CLONE_THREAD)/
{
	@lines = count();
	this->new = (struct task_struct *)arg0;
	printf("E %d born %d %d 0x%x 0 %d 0x%x 0 0x%x 0 0 0 0 %d 0x%x 0x%x:0x%x .\n", timestamp, pid, this->new->pid,
	    (uint64_t)this->new->blocked.sig[0], this->new->sas_ss_size != 0, handled, onstack, tid,
	    (uint32_t)(arg1 & 0xffffff00) | ((this->new->flags & WORKER) != 0), *(uint64_t *)this->new->comm,
	    *(uint64_t *)(this->new->comm + 8));
}

/* task_rename(task, name): before the name is copied. */
rawtp:::task_rename
/((struct task_struct *)arg0)->tgid == TARGET/
{
	@lines = count();
	this->of = (struct task_struct *)arg0;
	printf("E %d name %d %d 0x%x 0 %d 0 0 0 0 0 0 0 0 0 0x%x:0x%x .\n", timestamp, TARGET, this->of->pid,
	    (uint64_t)this->of->blocked.sig[0], this->of->sas_ss_size != 0, *(uint64_t *)arg1,
	    *(uint64_t *)(arg1 + 8));
}

/* sched_process_exec(task, old_pid, bprm) */
rawtp:::sched_process_exec
/pid == TARGET/
{
	self->known = 1;
	@lines = count();
	handled = 0;
	onstack = 0;
	printf("E %d exec %d %d 0x%x 0 %d 0 0 0 0 0 0 0 %d 0 0x%x:0x%x .\n", timestamp, pid, tid,
	    (uint64_t)curthread->blocked.sig[0], curthread->sas_ss_size != 0, (int)arg1, *(uint64_t *)curthread->comm,
	    *(uint64_t *)(curthread->comm + 8));
}

rawtp:::sched_process_exit
/pid == TARGET/
{
	@lines = count();
	printf("E %d exit %d %d 0x%x 0 %d 0 0 0 0 0 0 0 0 0x%x 0 .\n", timestamp, pid, tid,
	    (uint64_t)curthread->blocked.sig[0], curthread->sas_ss_size != 0,
	    (curthread->signal->flags & GROUP_EXIT) != 0);
}

rawtp:::sched_process_exit
/pid == TARGET && curthread->signal->live.counter == 0/
{
	over = 1;
}

/* Not at once: another thread may still be at its own exit's line. */
tick-5hz
/over/
{
	exit(0);
}

/* ---- the thread's own set-up -------------------------------------------------------------- */
syscall::rt_sigprocmask:entry, syscall::rt_sigaction:entry
/pid == TARGET && arg1 != 0/
{
	self->set = arg0 + 1;	/* how, or the signal; without a second argument the call only asks */
}

syscall::sigaltstack:entry
/pid == TARGET && arg0 != 0/
{
	self->set = 1;
}

syscall::rt_sigprocmask:return
/self->set && arg0 == 0/
{
	@lines = count();
	printf("E %d mask %d %d 0x%x 0 %d 0 0 0 0 0 0 0 0 0 0 .\n", timestamp, pid, tid,
	    (uint64_t)curthread->blocked.sig[0], curthread->sas_ss_size != 0);
}

syscall::sigaltstack:return
/self->set && arg0 == 0/
{
	@lines = count();
	printf("E %d altstack %d %d 0x%x 0 %d 0 0 0 0 0 0 0 0 0 0 .\n", timestamp, pid, tid,
	    (uint64_t)curthread->blocked.sig[0], curthread->sas_ss_size != 0);
}

syscall::rt_sigaction:return
/self->set && arg0 == 0/
{
	@lines = count();
	this->bit = (uint64_t)1 << (self->set - 2);
	this->action = &curthread->sighand->action[self->set - 2];
	this->handler = (uint64_t)this->action->sa.sa_handler;
	this->sa_flags = (uint64_t)this->action->sa.sa_flags;
	handled = this->handler > 1 ? handled | this->bit : handled & ~this->bit;
	onstack = this->handler > 1 && (this->sa_flags & ONSTACK) ? onstack | this->bit : onstack & ~this->bit;
	printf("E %d action %d %d 0x%x 0 %d 0x%x 0 0x%x 0 %d %d 0x%x 0 0 0 .\n", timestamp, pid, tid,
	    (uint64_t)curthread->blocked.sig[0], curthread->sas_ss_size != 0, handled, onstack, (int)self->set - 1,
	    this->handler > 1 ? 2 : (int)this->handler, (uint32_t)this->sa_flags);
}

syscall::rt_sigprocmask:return, syscall::sigaltstack:return, syscall::rt_sigaction:return
/self->set/
{
	self->set = 0;
}

/* ---- signals ------------------------------------------------------------------------------ */
/* signal_generate(sig, info, task, type, result) */
rawtp:::signal_generate
/((struct task_struct *)arg2)->tgid == TARGET/
{
	@lines = count();
	this->to = (struct task_struct *)arg2;
	printf("E %d generate %d %d 0x%x 0 %d 0 0 0 0 %d 0 0 %d 0x%x 0 .\n", timestamp, TARGET, this->to->pid,
	    (uint64_t)this->to->blocked.sig[0], this->to->sas_ss_size != 0, (int)arg0, tid,
	    (int)arg4 & 0xff | ((int)arg3 != 0 ? 0x100 : 0));
}

/* signal_deliver(sig, info, ka): the handler runs with what signal_delivered(), kernel/signal.c, will add. */
rawtp:::signal_deliver
/pid == TARGET/
{
	@lines = count();
	this->action = (struct k_sigaction *)arg2;
	this->handler = (uint64_t)this->action->sa.sa_handler;
	this->sa_flags = (uint64_t)this->action->sa.sa_flags;
	this->added = this->handler > 1 ? (uint64_t)this->action->sa.sa_mask.sig[0] & ~UNBLOCKABLE : 0;
	this->added |= this->handler > 1 && !(this->sa_flags & NODEFER) ? (uint64_t)1 << ((int)arg0 - 1) : 0;
	printf("E %d deliver %d %d 0x%x 0 %d 0 0 0 0 %d %d 0x%x 0 0 0 .\n", timestamp, pid, tid,
	    (uint64_t)curthread->blocked.sig[0] | this->added, curthread->sas_ss_size != 0, (int)arg0,
	    this->handler > 1 ? 2 : (int)this->handler, (uint32_t)this->sa_flags);
}

rawtp:::signal_deliver
/pid == TARGET && (((struct k_sigaction *)arg2)->sa.sa_flags & RESETHAND)/
{
	handled &= ~((uint64_t)1 << ((int)arg0 - 1));
	onstack &= handled;
}

/* The mask and the stack that are about to be put back, from the frame: x86-64's ucontext is at the stack pointer. */
syscall::rt_sigreturn:entry
/pid == TARGET/
{
	@lines = count();
	this->frame = uregs[R_SP];
	this->mask = *(uint64_t *)copyin(this->frame + 296, 8);
	this->flags = *(uint32_t *)copyin(this->frame + 24, 4);
	this->size = *(uint64_t *)copyin(this->frame + 32, 8);
	printf("E %d return %d %d 0x%x 0 %d 0 0 0 0 0 0 0 0 0 0 .\n", timestamp, pid, tid,
	    this->mask & ~UNBLOCKABLE, this->size != 0 && !(this->flags & SS_DISABLE_));
}

/* ---- the trace's own ---------------------------------------------------------------------- */
/* An error in a clause keeps its line from being printed: one record is lost, here and now. */
dtrace:::ERROR
{
	printf("E %d lost 0 0 0x%x 0 0 0 0 0 0 0 0 0 0 0x1 0 .\n", timestamp, timestamp);
}

END
{
	printf("sigwindow-end time_ns=%d\n", timestamp);
	printa("@lines: %@d\n", @lines);
}
