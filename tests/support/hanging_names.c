/* Preloaded into the gateway: the resolution of one name never ends, as if its name server did not answer.
 *
 * The resolver of the C library takes its name servers from /etc/resolv.conf only, so a test cannot point it to a server of its own.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

typedef int resolver(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    if (name != NULL && strcmp(name, "hanging.test") == 0) {
        for (;;) {
            pause();
        }
    }
    return ((resolver *)dlsym(RTLD_NEXT, "getaddrinfo"))(name, service, hints, found);
}
