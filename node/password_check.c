/*
 * The helper thread: a queue in, a queue out, one lock, an eventfd. The thread calls OpenSSL's hashes (any
 * thread may) and nothing else; passwords are wiped as soon as their job ends.
 */
#include "node/password_check.h"

#include "shared/list.h"

#include <assert.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* Below the event loops: a crowd that logs in must not hold up those who are served. */
#define THREAD_NICE 5
#define END_WAIT_S  1

struct password_check {
    struct list link;          /* on waiting or done */
    bool waiting;              /* under the lock: the thread has not begun it */
    password_checked *checked; /* event loop only; NULL: cancelled */
    void *owner;               /* event loop only */
    bool good;                 /* written by the thread before it is done */
    struct password_hash hash;
    size_t size;
    uint8_t password[];
};

struct password_checks {
    uint32_t waiting_max;
    uint32_t count; /* jobs that are not answered, cancelled ones included; event loop only */
    void (*woken)(void *context);
    void *context;
    struct event *event;
    int wake; /* eventfd: something is done */
    bool running;
    pthread_t thread;
    pthread_mutex_t lock; /* for what follows */
    pthread_cond_t more;
    struct list waiting, done;
    bool ending;
};

static void check_free(struct password_check *check)
{
    OPENSSL_cleanse(check, sizeof *check + check->size);
    free(check);
}

/* The thread
 * -------------------------------------------------------------------------------------------------- */

static void *run(void *argument)
{
    struct password_checks *checks = argument;
    setpriority(PRIO_PROCESS, 0, THREAD_NICE); /* of this thread alone, as Linux has it */
    pthread_mutex_lock(&checks->lock);
    for (;;) {
        while (list_empty(&checks->waiting) && !checks->ending)
            pthread_cond_wait(&checks->more, &checks->lock);
        if (checks->ending)
            break;
        struct password_check *check = list_entry(checks->waiting.next, struct password_check, link);
        list_remove(&check->link);
        check->waiting = false;
        pthread_mutex_unlock(&checks->lock);
        check->good = password_hash_fits(&check->hash, bytes_of(check->password, check->size));
        pthread_mutex_lock(&checks->lock);
        list_append(&checks->done, &check->link);
        const uint64_t one = 1;
        if (write(checks->wake, &one, sizeof one) < 0)
            assert(errno == EAGAIN); /* full: it is ready to be read all the more */
    }
    pthread_mutex_unlock(&checks->lock);
    OPENSSL_thread_stop();
    return NULL;
}

/* Signals stay with the main thread. */
static enum status start_thread(struct password_checks *checks)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&checks->thread, NULL, run, checks);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    checks->running = error == 0;
    errno = error;
    return error == 0 ? STATUS_OK : STATUS_SYSTEM;
}

/* The event loop
 * ---------------------------------------------------------------------------------------------- */

static void on_done(evutil_socket_t fd, short events, void *argument)
{
    (void)events;
    struct password_checks *checks = argument;
    checks->woken(checks->context);
    uint64_t number;
    if (read(fd, &number, sizeof number) < 0)
        return;
    struct list done;
    list_init(&done);
    pthread_mutex_lock(&checks->lock);
    list_splice(&done, &checks->done);
    pthread_mutex_unlock(&checks->lock);
    while (!list_empty(&done)) { /* an answer may cancel another that stands here */
        struct password_check *check = list_entry(done.next, struct password_check, link);
        password_checked *checked = check->checked;
        void *owner = check->owner;
        bool good = check->good;
        list_remove(&check->link);
        check_free(check);
        checks->count--;
        if (checked != NULL)
            checked(owner, good);
    }
}

enum status password_checks_new(struct event_base *base, uint32_t waiting_max, void (*woken)(void *context),
    void *context, struct password_checks **ret_checks)
{
    struct password_checks *checks = calloc(1, sizeof *checks);
    if (checks == NULL)
        return STATUS_NO_MEMORY;
    checks->waiting_max = waiting_max;
    checks->woken = woken;
    checks->context = context;
    list_init(&checks->waiting);
    list_init(&checks->done);
    pthread_mutex_init(&checks->lock, NULL);
    pthread_cond_init(&checks->more, NULL);
    checks->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (checks->wake >= 0)
        checks->event = event_new(base, checks->wake, EV_READ | EV_PERSIST, on_done, checks);
    if (checks->event == NULL || event_add(checks->event, NULL) != 0) {
        enum status status = checks->wake < 0 ? STATUS_SYSTEM : STATUS_NO_MEMORY;
        password_checks_free(&checks);
        return status;
    }
    *ret_checks = checks;
    return STATUS_OK;
}

static void free_all(struct list *list)
{
    list_for_each(list, element, following)
    {
        list_remove(element);
        check_free(list_entry(element, struct password_check, link));
    }
}

/* One hash may take seconds, longer than the process has for its end. */
static bool join_soon(pthread_t thread)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += END_WAIT_S;
    if (pthread_timedjoin_np(thread, NULL, &until) == 0)
        return true;
    pthread_detach(thread);
    return false;
}

void password_checks_free(struct password_checks **checks_pointer)
{
    struct password_checks *checks = *checks_pointer;
    *checks_pointer = NULL;
    if (checks == NULL)
        return;
    if (checks->running) {
        pthread_mutex_lock(&checks->lock);
        checks->ending = true;
        pthread_cond_signal(&checks->more);
        pthread_mutex_unlock(&checks->lock);
        if (!join_soon(checks->thread))
            return; /* it still uses all this, and the process is about to end */
    }
    free_all(&checks->waiting);
    free_all(&checks->done);
    if (checks->event != NULL)
        event_free(checks->event);
    if (checks->wake >= 0)
        close(checks->wake);
    pthread_cond_destroy(&checks->more);
    pthread_mutex_destroy(&checks->lock);
    free(checks);
}

enum status password_check_start(struct password_checks *checks, const struct password_hash *hash,
    struct bytes password, password_checked *checked, void *owner, struct password_check **ret_check)
{
    if (checks->count >= checks->waiting_max)
        return STATUS_LIMIT;
    if (!checks->running) {
        enum status status = start_thread(checks);
        if (status != STATUS_OK)
            return status;
    }
    struct password_check *check = calloc(1, sizeof *check + password.size);
    if (check == NULL)
        return STATUS_NO_MEMORY;
    list_init(&check->link);
    check->waiting = true;
    check->hash = *hash;
    check->checked = checked;
    check->owner = owner;
    check->size = password.size;
    if (password.size > 0)
        memcpy(check->password, password.data, password.size);
    checks->count++;
    pthread_mutex_lock(&checks->lock);
    list_append(&checks->waiting, &check->link);
    pthread_cond_signal(&checks->more);
    pthread_mutex_unlock(&checks->lock);
    *ret_check = check;
    return STATUS_OK;
}

void password_check_cancel(struct password_checks *checks, struct password_check **check_pointer)
{
    struct password_check *check = *check_pointer;
    *check_pointer = NULL;
    pthread_mutex_lock(&checks->lock);
    bool waiting = check->waiting;
    if (waiting)
        list_remove(&check->link);
    pthread_mutex_unlock(&checks->lock);
    if (waiting) {
        check_free(check);
        checks->count--;
    } else {
        check->checked = NULL; /* its answer is thrown away */
    }
}
