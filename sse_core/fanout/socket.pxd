# The system calls of the engine, as declared by POSIX and Linux, and nothing else.
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

from sse_core.fanout.log cimport iovec

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    ssize_t send(int fd, const void *data, size_t size, int flags)
    ssize_t sendmsg(int fd, const msghdr *message, int flags)
    ssize_t recv(int fd, void *data, size_t size, int flags)
    int shutdown(int fd, int how)
    int setsockopt(int fd, int level, int name, const void *value, socklen_t size)
    int MSG_NOSIGNAL
    int MSG_DONTWAIT
    int SHUT_WR
    int SHUT_RDWR

cdef extern from "<netinet/in.h>" nogil:
    int IPPROTO_TCP

cdef extern from "<netinet/tcp.h>" nogil:
    int TCP_USER_TIMEOUT
    int TCP_NODELAY

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        void *ptr
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int operation, int fd, epoll_event *event)
    int epoll_wait(int epoll, epoll_event *events, int count, int timeout)
    int EPOLL_CLOEXEC
    int EPOLL_CTL_ADD
    int EPOLL_CTL_MOD
    int EPOLL_CTL_DEL
    int EPOLLIN
    int EPOLLOUT
    int EPOLLRDHUP
    int EPOLLHUP
    int EPOLLERR
    int EPOLLET

cdef extern from *:
    """
    #define prefetch(p) __builtin_prefetch((p), 1)
    """
    void prefetch(const void *address) noexcept nogil
