/* The tasks of the kernel subject: processes and threads whose descriptor tables hold nothing of ours.
 *
 * Commands come through memory and not through a descriptor, so that a test may close, replace and
 * limit any number. The memory is a System V segment, which is attached by its id: even the image
 * after an execve finds it again without opening anything. There is no C library, so that no system
 * call is made but those that are written here.
 *
 *     agent SEGMENT MAILBOX
 *
 * Python writes a command into the mailbox of a task, sets `turn` to COMMANDED and wakes the task;
 * the task executes it, sets `turn` to ANSWERED and wakes Python. Layout and numbers are repeated in
 * agents.py.
 */

#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/futex.h>
#include <linux/kcmp.h>
#include <linux/prctl.h>
#include <linux/time_types.h>

#define SEGMENT_ADDRESS 0x1000000000UL
#define MAILBOX_SIZE 0x10000
#define ENTRIES_AT 0x1000
#define ENTRIES 500
#define DATA_AT 0x4000
#define STACK_ENDS_AT 0x10000

#ifndef F_DUPFD_QUERY
#define F_DUPFD_QUERY 1027
#endif
#define LSEEK_FROM_HERE 1
#define SIGNAL_TO_DIE_WITH_PARENT 9
#define NO_SUCH_PROCESS (-3)
#define NO_SUCH_COMMAND (-38)
#define TIMED_OUT (-110)

enum { ANSWERED, COMMANDED };
enum { SYSTEM_CALL, CLONE, EXECVE, CORRELATE };

struct entry {
    int number, same, close_on_exec, status;
    long position;
};

struct mailbox {
    unsigned turn;
    int command;
    long arguments[7]; /* of SYSTEM_CALL: the call's number, then its arguments */
    long result;
    int bound; /* numbers below it are observed after the command */
    int seen;  /* entries that the observation wrote */
    int task;  /* the id of the task; 0 until it serves */
    /* Only in the first mailbox: */
    int controller; /* the pid of the Python process, without which a task ends */
    int segment;    /* the id of this memory */
    char program[256];
};

struct place {
    int pid, number, class;
};

#if defined(__x86_64__)
static long call(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

/* The child starts in `serve` on its own stack, whether or not it shares our memory. */
static long clone_into(unsigned long flags, char *stack_end, int *pidfd, void (*serve)(long), long index)
{
    register long no_tid __asm__("r10") = 0;
    register void (*entry)(long) __asm__("r12") = serve;
    register long argument __asm__("r13") = index;
    long result;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "mov %%r13, %%rdi\n\t"
                     "call *%%r12\n\t"
                     "hlt\n"
                     "1:"
                     : "=a"(result)
                     : "a"(__NR_clone), "D"(flags), "S"(stack_end), "d"(pidfd), "r"(no_tid), "r"(entry),
                       "r"(argument)
                     : "rcx", "r11", "memory");
    return result;
}

__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n\thlt\n");
#elif defined(__aarch64__)
static long call(long number, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}

static long clone_into(unsigned long flags, char *stack_end, int *pidfd, void (*serve)(long), long index)
{
    register long x8 __asm__("x8") = __NR_clone;
    register long x0 __asm__("x0") = (long)flags;
    register char *x1 __asm__("x1") = stack_end;
    register int *x2 __asm__("x2") = pidfd;
    register long x3 __asm__("x3") = 0;
    register void (*x20)(long) __asm__("x20") = serve;
    register long x21 __asm__("x21") = index;
    __asm__ volatile("svc 0\n\tcbnz x0, 1f\n\tmov x29, xzr\n\tmov x0, x21\n\tblr x20\n\tbrk 1\n1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x20), "r"(x21)
                     : "x4", "memory");
    return x0;
}

__asm__(".globl _start\n_start:\n\tmov x29, xzr\n\tmov x0, sp\n\tbl begin\n\tbrk 1\n");
#else
#error "write call() and clone_into() for this architecture"
#endif

#define CALL1(number, a) call(number, (long)(a), 0, 0, 0, 0, 0)
#define CALL2(number, a, b) call(number, (long)(a), (long)(b), 0, 0, 0, 0)
#define CALL3(number, a, b, c) call(number, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define CALL4(number, a, b, c, d) call(number, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)

static struct mailbox *mailbox(long index)
{
    return (struct mailbox *)(SEGMENT_ADDRESS + index * MAILBOX_SIZE);
}

static void *within(struct mailbox *box, long offset)
{
    return (char *)box + offset;
}

/* Write what each number below the bound is; `same` is the first number with the same file. */
static void observe(struct mailbox *box)
{
    struct entry *entries = within(box, ENTRIES_AT);
    int seen = 0;
    for (int number = 0; number < box->bound && seen < ENTRIES; number++) {
        long flag = CALL2(__NR_fcntl, number, F_GETFD);
        if (flag < 0)
            continue;
        struct entry *entry = &entries[seen++];
        entry->number = entry->same = number;
        entry->close_on_exec = (int)flag;
        entry->status = (int)CALL2(__NR_fcntl, number, F_GETFL);
        entry->position = CALL3(__NR_lseek, number, 0, LSEEK_FROM_HERE);
        for (struct entry *earlier = entries; earlier < entry; earlier++) {
            if (earlier->same == earlier->number
                && CALL3(__NR_fcntl, number, F_DUPFD_QUERY, earlier->number) == 1) {
                entry->same = earlier->number;
                break;
            }
        }
    }
    box->seen = seen;
}

/* Give places, in tables of any tasks, that hold the same file the same class: the index of the first. */
static long correlate(struct mailbox *box, long count)
{
    struct place *places = within(box, DATA_AT);
    int *sorted = within(box, ENTRIES_AT); /* indices of the first of each class, in the kernel's order */
    int classes = 0;
    for (int index = 0; index < count; index++) {
        struct place *place = &places[index];
        int low = 0, high = classes;
        place->class = index;
        while (low < high) {
            int middle = (low + high) / 2;
            struct place *other = &places[sorted[middle]];
            long order = call(__NR_kcmp, place->pid, other->pid, KCMP_FILE, place->number, other->number, 0);
            if (order < 0)
                return order;
            if (order == 0) {
                place->class = sorted[middle];
                break;
            }
            if (order == 1)
                high = middle;
            else
                low = middle + 1;
        }
        if (place->class != index)
            continue;
        for (int move = classes++; move > low; move--)
            sorted[move] = sorted[move - 1];
        sorted[low] = index;
    }
    return classes;
}

static void put_decimal(char *text, long value)
{
    char digits[24];
    int length = 0;
    do
        digits[length++] = (char)('0' + value % 10);
    while (value /= 10);
    while (length)
        *text++ = digits[--length];
    *text = 0;
}

static long decimal(const char *text)
{
    long value = 0;
    while (*text)
        value = value * 10 + (*text++ - '0');
    return value;
}

static void serve(long index);

static long execute(struct mailbox *box, long index)
{
    long *a = box->arguments;
    switch (box->command) {
    case SYSTEM_CALL:
        return call(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
    case CLONE: /* flags, mailbox of the child, where its pidfd's number is written */
        return clone_into((unsigned long)a[0], within(mailbox(a[1]), STACK_ENDS_AT), (int *)a[2], serve, a[1]);
    case EXECVE: {
        char first[24], second[24];
        char *argv[] = {mailbox(0)->program, first, second, 0};
        char *envp[] = {0};
        put_decimal(first, mailbox(0)->segment);
        put_decimal(second, index);
        return CALL3(__NR_execve, argv[0], argv, envp);
    }
    case CORRELATE: /* how many places the data holds */
        return correlate(box, a[0]);
    }
    return NO_SUCH_COMMAND;
}

static void answer(struct mailbox *box, long result)
{
    box->result = result;
    if (box->bound)
        observe(box);
    __atomic_store_n(&box->turn, ANSWERED, __ATOMIC_RELEASE);
    CALL3(__NR_futex, &box->turn, FUTEX_WAKE, 1);
}

static void serve(long index)
{
    struct mailbox *box = mailbox(index);
    struct mailbox *first = mailbox(0);
    struct __kernel_timespec second = {1, 0};
    box->task = (int)CALL1(__NR_gettid, 0);
    for (;;) {
        while (__atomic_load_n(&box->turn, __ATOMIC_ACQUIRE) != COMMANDED) {
            if (CALL4(__NR_futex, &box->turn, FUTEX_WAIT, ANSWERED, &second) == TIMED_OUT
                && CALL2(__NR_kill, first->controller, 0) == NO_SUCH_PROCESS)
                CALL1(__NR_exit_group, 1);
        }
        answer(box, execute(box, index));
    }
}

__attribute__((used)) void begin(long *stack)
{
    char **argv = (char **)(stack + 1);
    long segment = decimal(argv[1]), index = decimal(argv[2]);
    if (CALL3(__NR_shmat, segment, SEGMENT_ADDRESS, 0) != (long)SEGMENT_ADDRESS)
        CALL1(__NR_exit_group, 2);
    struct mailbox *box = mailbox(index);
    if (index == 0) {
        CALL3(__NR_close_range, 0, ~0U, 0);
        CALL2(__NR_prctl, PR_SET_PDEATHSIG, SIGNAL_TO_DIE_WITH_PARENT);
        CALL2(__NR_prctl, PR_SET_CHILD_SUBREAPER, 1);
    }
    /* Either Python waits for the first agent to begin, or the task for its execve to end. */
    box->task = (int)CALL1(__NR_gettid, 0);
    answer(box, 0);
    serve(index);
}
