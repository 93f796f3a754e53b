/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Made from the declarations in probes/events.py by `make generate`. */

struct event {
	u64 time_ns;
	u64 mask;
	u64 handled;
	u64 onstack;
	s32 pid;
	s32 tid;
	u32 sa_flags;
	s32 peer;
	u32 flags;
	s32 stack;
	u8 kind;
	u8 altstack;
	u8 signal;
	u8 disposition;
	char comm[16];
};

#define KIND_snapshot 0
#define KIND_born 1
#define KIND_start 2
#define KIND_mask 3
#define KIND_altstack 4
#define KIND_action 5
#define KIND_generate 6
#define KIND_deliver 7
#define KIND_return 8
#define KIND_mark 9
#define KIND_name 10
#define KIND_exec 11
#define KIND_exit 12
#define KIND_lost 13

#define BORN_KERNEL_WORKER 0x1
#define GENERATE_RESULT 0xff
#define GENERATE_PROCESS 0x100
#define EXIT_GROUP 0x1
