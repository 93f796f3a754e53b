#!/usr/sbin/dtrace -s
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * window.d - FreeBSD: record what decides whether a new thread can be hit by a signal before it is ready.
 *
 * USAGE: dtrace -q -Z -s window.d PID > lines 2> errors	(as root, after kldload dtraceall)
 *
 * One line an event of the process PID, in the protocol of docs/lines.md; ends when the process does.
 * Never start it with -p or -c: both ptrace the process, which stretches what is to be measured.
 * The twin for Linux is window-linux.d. A clause counts its line before it prints it: a line that an error kept
 * from being printed is missed at the end.
 *
 * LINE: E time_ns kind pid tid mask mask_hi altstack handled handled_hi onstack onstack_hi
 *         signal disposition sa_flags peer flags comm .
 */
#pragma D option quiet
#pragma D option bufsize=8m
#pragma D option dynvarsize=8m
#pragma D option switchrate=20hz

inline int TARGET = $1;
inline int ALTSTACK = 0x20;		/* TDP_ALTSTACK, sys/proc.h */
inline int CLONE_THREAD = 0x10000;	/* flags of `born`, as on Linux */
inline int TO_PROCESS = 0x100;		/* flags of `generate` */
inline int IGNORED = 1;
inline uint64_t ONSTACK = 0x08000000;	/* sa_flags of the protocol: Linux's bits */
inline uint64_t NODEFER = 0x40000000;
inline uint64_t RESETHAND = 0x80000000;
inline int SETPTR = 1;			/* SIGFASTBLOCK_SETPTR, sys/signalvar.h */

dtrace:::BEGIN
{
	this->jail = ((struct thread *)curthread)->td_ucred->cr_prison;
	printf("sigwindow-lines 1 tracer=dtrace os=freebsd signals=freebsd clock=DTrace");
	printf(" time_ns=%d wall_ns=%d", timestamp, walltimestamp);
	printf(" target=%d follow=0 kernel=%s host=%s\n", TARGET, stringof(this->jail->pr_osrelease),
	    stringof(this->jail->pr_hostname));
	printf("sigwindow-ready\n");	/* BEGIN comes after all probes are in */
}

/* ---- what most lines say: the mask and the alternate stack of the thread that runs -------- */
syscall:freebsd:thr_new:entry, syscall:freebsd:thr_exit:entry, fbt:kernel:fork_exit:entry,
syscall:freebsd:sigprocmask:entry, syscall:freebsd:sigprocmask:return,
syscall:freebsd:sigaltstack:entry, syscall:freebsd:sigaltstack:return,
syscall:freebsd:sigaction:return, syscall:freebsd:sigreturn:return, syscall:freebsd:thr_set_name:return,
fbt:kernel:sendsig:entry, fbt:kernel:sigexit:entry, proc:::exec-success, proc:::exit
/pid == TARGET/
{
	this->td = (struct thread *)curthread;
	this->mask = (uint64_t)this->td->td_sigmask.__bits[1] << 32 | this->td->td_sigmask.__bits[0];
	this->mask_hi = (uint64_t)this->td->td_sigmask.__bits[3] << 32 | this->td->td_sigmask.__bits[2];
	this->altstack = (this->td->td_pflags & ALTSTACK) != 0;
}

/* The handled set, and the process's name in words of 8 bytes. */
syscall:freebsd:thr_new:entry, syscall:freebsd:sigprocmask:entry, syscall:freebsd:sigaltstack:entry,
syscall:freebsd:sigaction:return, proc:::exec-success
/pid == TARGET/
{
	this->ps = this->td->td_proc->p_sigacts;
	this->handled = (uint64_t)this->ps->ps_sigcatch.__bits[1] << 32 | this->ps->ps_sigcatch.__bits[0];
	this->handled_hi = (uint64_t)this->ps->ps_sigcatch.__bits[3] << 32 | this->ps->ps_sigcatch.__bits[2];
	this->onstack = this->handled &
	    ((uint64_t)this->ps->ps_sigonstack.__bits[1] << 32 | this->ps->ps_sigonstack.__bits[0]);
	this->onstack_hi = this->handled_hi &
	    ((uint64_t)this->ps->ps_sigonstack.__bits[3] << 32 | this->ps->ps_sigonstack.__bits[2]);
	this->name = (uint64_t *)alloca(24);
	bcopy(this->td->td_proc->p_comm, this->name, 20);	/* MAXCOMLEN + 1 */
}

/* ---- threads from before the trace: told of when they first act --------------------------- */
syscall:freebsd:thr_new:entry, syscall:freebsd:sigprocmask:entry, syscall:freebsd:sigaltstack:entry
/pid == TARGET && !self->known/
{
	self->known = 1;
	@lines = count();
	printf("E %d snapshot %d %d 0x%x 0x%x %d 0x%x 0x%x 0x%x 0x%x 0 0 0 0 0 0x%x:0x%x:0x%x .\n", timestamp, pid, tid,
	    this->mask, this->mask_hi, this->altstack, this->handled, this->handled_hi, this->onstack, this->onstack_hi,
	    this->name[0], this->name[1], (uint32_t)this->name[2]);
}

/* ---- births and ends ---------------------------------------------------------------------- */
syscall:freebsd:thr_new:entry
/pid == TARGET/
{
	self->creating = timestamp;
}

/* thread_link(struct thread *newtd, struct proc *p): the mask is copied, the child has not run. Fork calls it, too. */
fbt:kernel:thread_link:entry
/self->creating && ((struct proc *)arg1)->p_pid == TARGET/
{
	self->born = 1;
	@lines = count();
	this->new = (struct thread *)arg0;
	this->acts = ((struct proc *)arg1)->p_sigacts;
	this->handled = (uint64_t)this->acts->ps_sigcatch.__bits[1] << 32 | this->acts->ps_sigcatch.__bits[0];
	this->handled_hi = (uint64_t)this->acts->ps_sigcatch.__bits[3] << 32 | this->acts->ps_sigcatch.__bits[2];
	this->onstack = this->handled &
	    ((uint64_t)this->acts->ps_sigonstack.__bits[1] << 32 | this->acts->ps_sigonstack.__bits[0]);
	this->onstack_hi = this->handled_hi &
	    ((uint64_t)this->acts->ps_sigonstack.__bits[3] << 32 | this->acts->ps_sigonstack.__bits[2]);
	this->name = (uint64_t *)alloca(24);
	bcopy(((struct proc *)arg1)->p_comm, this->name, 20);
	printf("E %d born %d %d 0x%x 0x%x %d 0x%x 0x%x 0x%x 0x%x 0 0 0 %d 0x%x 0x%x:0x%x:0x%x .\n", timestamp, pid,
	    this->new->td_tid, (uint64_t)this->new->td_sigmask.__bits[1] << 32 | this->new->td_sigmask.__bits[0],
	    (uint64_t)this->new->td_sigmask.__bits[3] << 32 | this->new->td_sigmask.__bits[2],
	    (this->new->td_pflags & ALTSTACK) != 0, this->handled, this->handled_hi, this->onstack, this->onstack_hi,
	    tid, CLONE_THREAD, this->name[0], this->name[1], (uint32_t)this->name[2]);
}

/* A thread was made and its birth was not seen: with -Z a probe that is missing is silent. */
syscall:freebsd:thr_new:return
/self->creating && !self->born && errno == 0/
{
	@lines = count();
	printf("E %d lost 0 0 0x%x 0 0 0 0 0 0 0 0 0 0 0x1 0 .\n", timestamp, self->creating);
}

syscall:freebsd:thr_new:return
/self->creating/
{
	self->creating = 0;
	self->born = 0;
}

/* The first thing that a new thread runs, still in the kernel. */
fbt:kernel:fork_exit:entry
/pid == TARGET/
{
	self->known = 1;
	@lines = count();
	printf("E %d start %d %d 0x%x 0x%x %d 0 0 0 0 0 0 0 0 0 0 .\n", timestamp, pid, tid, this->mask, this->mask_hi,
	    this->altstack);
}

syscall:freebsd:thr_exit:entry
/pid == TARGET/
{
	self->gone = 1;
	@lines = count();
	printf("E %d exit %d %d 0x%x 0x%x %d 0 0 0 0 0 0 0 0 0 0 .\n", timestamp, pid, tid, this->mask, this->mask_hi,
	    this->altstack);
}

/* A thread that the process's end takes along. Its mask is filled already: it says nothing. */
proc:::lwp-exit
/pid == TARGET && !self->gone/
{
	@lines = count();
	printf("E %d exit %d %d 0 0 0 0 0 0 0 0 0 0 0 0x1 0 .\n", timestamp, pid, tid);
}

proc:::lwp-exit
/pid == TARGET/
{
	self->gone = 0;
	self->known = 0;
}

proc:::exit
/pid == TARGET/
{
	@lines = count();
	printf("E %d exit %d %d 0x%x 0x%x %d 0 0 0 0 0 0 0 0 0x1 0 .\n", timestamp, pid, tid, this->mask, this->mask_hi,
	    this->altstack);
	exit(0);
}

proc:::exec-success
/pid == TARGET/
{
	self->known = 1;
	@lines = count();
	printf("E %d exec %d %d 0x%x 0x%x %d 0x%x 0x%x 0x%x 0x%x 0 0 0 %d 0 0x%x:0x%x:0x%x .\n", timestamp, pid, tid,
	    this->mask, this->mask_hi, this->altstack, this->handled, this->handled_hi, this->onstack, this->onstack_hi,
	    tid, this->name[0], this->name[1], (uint32_t)this->name[2]);
}

/* A thread that names itself; one that is named by another keeps its old name here. */
syscall:freebsd:thr_set_name:entry
/pid == TARGET/
{
	self->naming = arg0 == tid;
}

syscall:freebsd:thr_set_name:return
/self->naming && errno == 0/
{
	@lines = count();
	this->name = (uint64_t *)alloca(24);
	bcopy(this->td->td_name, this->name, 20);
	printf("E %d name %d %d 0x%x 0x%x %d 0 0 0 0 0 0 0 0 0 0x%x:0x%x:0x%x .\n", timestamp, pid, tid, this->mask,
	    this->mask_hi, this->altstack, this->name[0], this->name[1], (uint32_t)this->name[2]);
}

syscall:freebsd:thr_set_name:return
/self->naming/
{
	self->naming = 0;
}

/* ---- the thread's own set-up -------------------------------------------------------------- */
syscall:freebsd:sigprocmask:entry, syscall:freebsd:sigaction:entry
/pid == TARGET && arg1 != 0/
{
	self->set = arg0 + 1;	/* how, or the signal; without a second argument the call only asks */
}

syscall:freebsd:sigaltstack:entry
/pid == TARGET && arg0 != 0/
{
	self->set = 1;
}

syscall:freebsd:sigprocmask:return
/self->set && errno == 0/
{
	@lines = count();
	printf("E %d mask %d %d 0x%x 0x%x %d 0 0 0 0 0 0 0 0 0 0 .\n", timestamp, pid, tid, this->mask, this->mask_hi,
	    this->altstack);
}

syscall:freebsd:sigaltstack:return
/self->set && errno == 0/
{
	@lines = count();
	printf("E %d altstack %d %d 0x%x 0x%x %d 0 0 0 0 0 0 0 0 0 0 .\n", timestamp, pid, tid, this->mask,
	    this->mask_hi, this->altstack);
}

syscall:freebsd:sigaction:return
/self->set && errno == 0/
{
	@lines = count();
	this->ix = self->set - 2;
	this->handler = (uintptr_t)this->ps->ps_sigact[this->ix];
	this->sa_flags =
	    ((this->ps->ps_sigonstack.__bits[this->ix >> 5] >> (this->ix & 31)) & 1) * ONSTACK |
	    ((this->ps->ps_signodefer.__bits[this->ix >> 5] >> (this->ix & 31)) & 1) * NODEFER |
	    ((this->ps->ps_sigreset.__bits[this->ix >> 5] >> (this->ix & 31)) & 1) * RESETHAND;
	printf("E %d action %d %d 0x%x 0x%x %d 0x%x 0x%x 0x%x 0x%x %d %d 0x%x 0 0 0 .\n", timestamp, pid, tid,
	    this->mask, this->mask_hi, this->altstack, this->handled, this->handled_hi, this->onstack, this->onstack_hi,
	    (int)this->ix + 1, this->handler > 1 ? 2 : (int)this->handler, this->sa_flags);
}

syscall:freebsd:sigprocmask:return, syscall:freebsd:sigaltstack:return, syscall:freebsd:sigaction:return
/self->set/
{
	self->set = 0;
}

/* From here on the thread can block signals without a system call, which no line shows: a note, comm "sigfastblock". */
syscall:freebsd:sigfastblock:entry
/pid == TARGET && arg0 == SETPTR/
{
	@lines = count();
	printf("E %d mark 0 %d 0 0 0 0 0 0 0 0 0 0 0 0 0x6274736166676973:0x6b636f6c .\n", timestamp, tid);
}

/* ---- signals ------------------------------------------------------------------------------ */
/* tdsendsignal(p, td, sig, ksi): without a thread the signal is for the process. */
fbt:kernel:tdsendsignal:entry
/((struct proc *)arg0)->p_pid == TARGET/
{
	self->to = arg1 == 0 ? TO_PROCESS : 0;
}

/* In the sender. That a signal is ignored is known here already, so signal-discard, which follows, adds nothing. */
proc:::signal-send
/((struct proc *)arg1)->p_pid == TARGET/
{
	@lines = count();
	this->to = (struct thread *)arg0;
	this->acts = ((struct proc *)arg1)->p_sigacts;
	this->ix = (int)arg2 - 1;
	printf("E %d generate %d %d 0x%x 0x%x %d 0 0 0 0 %d 0 0 %d 0x%x 0 .\n", timestamp, TARGET, this->to->td_tid,
	    (uint64_t)this->to->td_sigmask.__bits[1] << 32 | this->to->td_sigmask.__bits[0],
	    (uint64_t)this->to->td_sigmask.__bits[3] << 32 | this->to->td_sigmask.__bits[2],
	    (this->to->td_pflags & ALTSTACK) != 0, (int)arg2, tid, self->to |
	    (((this->acts->ps_sigignore.__bits[this->ix >> 5] >> (this->ix & 31)) & 1) != 0 ? IGNORED : 0));
	self->to = 0;
}

/* sendsig(catcher, ksi, mask): traps, too. The handler runs with what postsig_done(), kern_sig.c, will add. */
fbt:kernel:sendsig:entry
/pid == TARGET/
{
	@lines = count();
	this->signal = ((struct ksiginfo *)arg1)->ksi_info.si_signo;
	this->ix = this->signal - 1;
	this->ps = this->td->td_proc->p_sigacts;
	this->nodefer = (this->ps->ps_signodefer.__bits[this->ix >> 5] >> (this->ix & 31)) & 1;
	this->sa_flags = this->nodefer * NODEFER |
	    ((this->ps->ps_sigonstack.__bits[this->ix >> 5] >> (this->ix & 31)) & 1) * ONSTACK |
	    ((this->ps->ps_sigreset.__bits[this->ix >> 5] >> (this->ix & 31)) & 1) * RESETHAND;
	this->mask |= (uint64_t)this->ps->ps_catchmask[this->ix].__bits[1] << 32 |
	    this->ps->ps_catchmask[this->ix].__bits[0];
	this->mask_hi |= (uint64_t)this->ps->ps_catchmask[this->ix].__bits[3] << 32 |
	    this->ps->ps_catchmask[this->ix].__bits[2];
	this->mask |= this->ix < 64 && !this->nodefer ? (uint64_t)1 << (this->ix & 63) : 0;
	this->mask_hi |= this->ix >= 64 && !this->nodefer ? (uint64_t)1 << (this->ix & 63) : 0;
	printf("E %d deliver %d %d 0x%x 0x%x %d 0 0 0 0 %d 2 0x%x 0 0 0 .\n", timestamp, pid, tid, this->mask,
	    this->mask_hi, this->altstack, this->signal, this->sa_flags);
}

/* The default action that ends the process. */
fbt:kernel:sigexit:entry
/pid == TARGET/
{
	@lines = count();
	printf("E %d deliver %d %d 0x%x 0x%x %d 0 0 0 0 %d 0 0 0 0 0 .\n", timestamp, pid, tid, this->mask,
	    this->mask_hi, this->altstack, (int)arg1);
}

syscall:freebsd:sigreturn:return
/pid == TARGET/
{
	@lines = count();
	printf("E %d return %d %d 0x%x 0x%x %d 0 0 0 0 0 0 0 0 0 0 .\n", timestamp, pid, tid, this->mask, this->mask_hi,
	    this->altstack);
}

/* ---- the trace's own ---------------------------------------------------------------------- */
/* An error in a clause keeps its line from being printed: one record is lost, here and now. */
dtrace:::ERROR
{
	printf("E %d lost 0 0 0x%x 0 0 0 0 0 0 0 0 0 0 0x1 0 .\n", timestamp, timestamp);
}

dtrace:::END
{
	printf("sigwindow-end time_ns=%d\n", timestamp);
	printa("@lines: %@d\n", @lines);
}
