/* The link process: the only one that talks to other nodes (DESIGN.md «Cluster»). */
#ifndef NODE_LINK_H
#define NODE_LINK_H

struct child;

int link_main(struct child *child);

#endif
