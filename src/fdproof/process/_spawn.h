/* The child between its birth and its program: no Python, no allocation, no lock.
 *
 * It may share memory with its parent (which then stands still until the exec), or have a copy made
 * while other threads held any lock there is. */
#ifndef FDPROOF_SPAWN_H
#define FDPROOF_SPAWN_H

#include "../_kernel.h"

#include <grp.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x00001000
#endif
#define FDP_CLOSE_RANGE_UNSHARE 2
#define FDP_STACK (64 * 1024)
#define FDP_GO 'g'
#define FDP_PID_ROOM 12

/* The 16-bit calls keep the plain names where both exist. */
#ifdef SYS_setgroups32
#define FDP_SETGROUPS SYS_setgroups32
#define FDP_SETRESGID SYS_setresgid32
#define FDP_SETRESUID SYS_setresuid32
#else
#define FDP_SETGROUPS SYS_setgroups
#define FDP_SETRESGID SYS_setresgid
#define FDP_SETRESUID SYS_setresuid
#endif

enum fdp_step {
    FDP_CLONE = 1,
    FDP_CGROUP,
    FDP_SESSION,
    FDP_PROCESS_GROUP,
    FDP_DIRECTORY,
    FDP_TABLE,
    FDP_FILES,
    FDP_CLOSE,
    FDP_EXTRA_GROUPS,
    FDP_GROUP,
    FDP_USER,
    FDP_DEATH_SIGNAL,
    FDP_ANNOUNCE,
    FDP_EXEC,
};

/* source == number: it stays; number == -1: put source aside; source == -1: what was put aside. */
struct fdp_move {
    int source, number, close_on_exec;
};

/* Written by the child, read by the parent. */
struct fdp_report {
    volatile int error, step, which;
};

struct fdp_order {
    char **paths, **argv, **envp;
    const char *directory;
    struct fdp_move *moves;
    int move_count;
    int *kept; /* sorted */
    int kept_count;
    int highest; /* of all numbers that moves and kept name */
    int cgroup, new_session, process_group, umask, death_signal;
    long user, group;
    gid_t *extra_groups;
    int extra_group_count;
    int own_memory;
    int channel; /* where a prepared child announces itself and waits for its publish, or -1 */
    char *own_pid; /* room in envp for the child's own pid, or NULL */
    pid_t parent;
    sigset_t mask;
    struct fdp_report *report;
};

static inline void fdp_default_handlers(void)
{
    struct sigaction action, fresh;
    int number;

    memset(&fresh, 0, sizeof fresh);
    fresh.sa_handler = SIG_DFL;
    /* Handlers are the parent's code: none may run here. Python ignores two signals that programs expect. */
    for (number = 1; number < 65; number++)
        if (sigaction(number, NULL, &action) == 0 &&
            ((action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN) || number == SIGPIPE ||
             number == SIGXFSZ))
            sigaction(number, &fresh, NULL);
}

static inline int fdp_move_all(const struct fdp_order *order)
{
    int index, aside = -1;

    for (index = 0; index < order->move_count; index++) {
        const struct fdp_move *move = &order->moves[index];
        int source = move->source < 0 ? aside : move->source, result;
        order->report->which = index;
        if (move->number < 0)
            result = aside = fdp_fcntl(source, F_DUPFD_CLOEXEC, 3);
        else if (source == move->number)
            result = fdp_fcntl(source, F_SETFD, move->close_on_exec ? FD_CLOEXEC : 0);
        else
            result = fdp_dup3(source, move->number, move->close_on_exec ? O_CLOEXEC : 0);
        if (result < 0)
            return result;
    }
    return 0;
}

static inline int fdp_close_all_but(const int *kept, int count)
{
    unsigned int first = 0;
    int index, result;

    for (index = 0; index < count; index++) {
        if ((unsigned int)kept[index] > first) {
            result = fdp_close_range(first, kept[index] - 1, 0);
            if (result < 0)
                return result;
        }
        first = (unsigned int)kept[index] + 1;
    }
    return fdp_close_range(first, ~0U, 0);
}

/* The room holds the digits of any pid and a NUL. */
static inline void fdp_write_pid(char *room)
{
    char digits[FDP_PID_ROOM];
    int count = 0, pid = getpid();

    for (; pid; pid /= 10)
        digits[count++] = (char)('0' + pid % 10);
    while (count)
        *room++ = digits[--count];
    *room = 0;
}

/* Returns only if no path could be executed, with the errno that says most. */
static inline int fdp_exec(const struct fdp_order *order)
{
    int index, refused = 0;

    for (index = 0; order->paths[index]; index++) {
        execve(order->paths[index], order->argv, order->envp);
        if (errno == EACCES)
            refused = EACCES;
        else if (errno != ENOENT && errno != ENOTDIR)
            return -errno;
    }
    return refused ? -refused : -errno;
}

/* KERNEL: 0 is a parent outside the child's own pid namespace, which cannot be told apart. */
static inline int fdp_orphaned(pid_t parent)
{
    pid_t now = getppid();
    return now != parent && now != 0;
}

#define FDP_STEP(name, call)              \
    do {                                  \
        order->report->step = (name);     \
        result = (int)(call);             \
        if (result < 0)                   \
            goto failed;                  \
    } while (0)
#define FDP_OR_ERRNO(call) ((call) < 0 ? -errno : 0)

static int fdp_child(void *argument)
{
    struct fdp_order *order = argument;
    int result;
    char word = 0;

    fdp_default_handlers();
    if (order->cgroup >= 0)
        FDP_STEP(FDP_CGROUP, FDP_OR_ERRNO(write(order->cgroup, "0", 1)));
    if (order->new_session)
        FDP_STEP(FDP_SESSION, FDP_OR_ERRNO(setsid()));
    if (order->process_group >= 0)
        FDP_STEP(FDP_PROCESS_GROUP, FDP_OR_ERRNO(setpgid(0, order->process_group)));
    if (order->umask >= 0)
        umask((mode_t)order->umask);
    if (order->directory)
        FDP_STEP(FDP_DIRECTORY, FDP_OR_ERRNO(chdir(order->directory)));

    /* KERNEL: a spawned child shares the table up to here; unsharing it by the range that is not needed
     * copies only the rest, so the cost does not grow with the parent's number of open descriptors. */
    FDP_STEP(FDP_TABLE, fdp_close_range((unsigned int)order->highest + 1, ~0U, FDP_CLOSE_RANGE_UNSHARE));
    FDP_STEP(FDP_FILES, fdp_move_all(order));
    FDP_STEP(FDP_CLOSE, fdp_close_all_but(order->kept, order->kept_count));

    /* Not through libc, which would change the ids of all threads that it believes to have. */
    if (order->extra_group_count >= 0)
        FDP_STEP(FDP_EXTRA_GROUPS,
                 FDP_OR_ERRNO(syscall(FDP_SETGROUPS, order->extra_group_count, order->extra_groups)));
    if (order->group >= 0)
        FDP_STEP(FDP_GROUP, FDP_OR_ERRNO(syscall(FDP_SETRESGID, order->group, order->group, order->group)));
    if (order->user >= 0)
        FDP_STEP(FDP_USER, FDP_OR_ERRNO(syscall(FDP_SETRESUID, order->user, order->user, order->user)));

    /* KERNEL: a change of ids clears the death signal, so it comes after them. */
    if (order->death_signal || order->channel >= 0) {
        int number = order->channel >= 0 ? SIGKILL : order->death_signal;
        FDP_STEP(FDP_DEATH_SIGNAL, fdp_prctl(PR_SET_PDEATHSIG, (unsigned long)number));
        if (fdp_orphaned(order->parent))
            _exit(127);
    }
    if (order->channel >= 0) {
        FDP_STEP(FDP_ANNOUNCE, FDP_OR_ERRNO(write(order->channel, "r", 1)));
        FDP_STEP(FDP_ANNOUNCE, read(order->channel, &word, 1) < 0 ? -errno : word == FDP_GO);
        /* End of file: given up, or the parent is gone. The program never ran. */
        if (result == 0)
            _exit(127);
        FDP_STEP(FDP_DEATH_SIGNAL, fdp_prctl(PR_SET_PDEATHSIG, (unsigned long)order->death_signal));
        if (order->death_signal && fdp_orphaned(order->parent))
            _exit(127);
    }
    if (order->own_pid)
        fdp_write_pid(order->own_pid);
    sigprocmask(SIG_SETMASK, &order->mask, NULL);
    FDP_STEP(FDP_EXEC, fdp_exec(order));
failed:
    order->report->error = -result;
    _exit(127);
}

/* A stack that nobody stands on, or NULL. Mapping, touching and unmapping one for each child can be
 * noticed, so one is kept. */
static char *fdp_spare_stack;

static inline char *fdp_take_stack(void)
{
    char *stack = __atomic_exchange_n(&fdp_spare_stack, NULL, __ATOMIC_ACQ_REL);
    if (stack)
        return stack;
    return mmap(NULL, FDP_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
}

static inline void fdp_put_stack(char *stack)
{
    stack = __atomic_exchange_n(&fdp_spare_stack, stack, __ATOMIC_ACQ_REL);
    if (stack)
        munmap(stack, FDP_STACK);
}

/* Make the child: its pid, or -errno if there is none. Without a channel it returns when the child has
 * started its program or ended. The pidfd is -1 or open in this process. */
static inline int fdp_start(struct fdp_order *order, int *pidfd)
{
    /* The parent goes on while a prepared child stands on this stack: in a copy of its own, because a
     * mapping is private wherever memory is not shared as a whole. */
    int flags = CLONE_PIDFD | SIGCHLD, result;
    sigset_t all;
    char *stack = fdp_take_stack();

    *pidfd = -1;
    order->report->error = 0;
    order->report->step = FDP_CLONE;
    if (stack == MAP_FAILED)
        return -errno;
    /* Only a parent that stands still may share its table: it closes its copies of the child's ends. */
    if (order->channel < 0)
        flags |= CLONE_VFORK | CLONE_FILES;
    if (order->channel < 0 && !order->own_memory)
        flags |= CLONE_VM;
    order->parent = getpid();
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &order->mask);
    result = clone(fdp_child, stack + FDP_STACK, flags, order, pidfd);
    if (result < 0) {
        result = -errno;
        /* KERNEL: the number is written before the child is made, and means nothing if that fails. */
        *pidfd = -1;
    }
    pthread_sigmask(SIG_SETMASK, &order->mask, NULL);
    fdp_put_stack(stack);
    return result;
}

#endif
