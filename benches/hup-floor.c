/* The least a restart can be: a HUP asks the child to end, waits for it and starts argv[1..] again. A TERM is passed on
   and ends this too. It notices nothing else, a child that ends by itself least of all. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static sigset_t before;

static pid_t start(char **argv) {
    pid_t pid = vfork();

    if (pid == 0) {
        sigprocmask(SIG_SETMASK, &before, NULL);
        execv(argv[0], argv);
        _exit(127);
    }
    return pid;
}

int main(int argc, char **argv) {
    sigset_t heard;
    int signal = 0;
    pid_t pid;

    if (argc < 2)
        return 125;
    sigemptyset(&heard);
    sigaddset(&heard, SIGHUP);
    sigaddset(&heard, SIGTERM);
    sigprocmask(SIG_BLOCK, &heard, &before);
    do {
        pid = start(argv + 1);
        if (pid < 0 || sigwait(&heard, &signal) != 0)
            return 125;
        kill(pid, SIGTERM);
        waitpid(pid, NULL, 0);
    } while (signal == SIGHUP);
    return 0;
}
