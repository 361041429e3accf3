/*
 * Cluster files: which nodes there are, and the configuration of one of them, out of what is said for all and
 * what is said for it. The master and the tools load one; children get the list of nodes with the handed-over
 * configuration.
 */
#ifndef SHARED_CONFIG_CLUSTER_H
#define SHARED_CONFIG_CLUSTER_H

#include "shared/config.h"

#include <jansson.h>

#define CONFIG_NODES_MAX 32 /* nodes of a cluster: each takes a place on the bus of every worker */

void config_cluster_done(struct config_cluster *cluster);

/* Adds the list to a handed-over document, and takes it out again; nothing if there is none. */
void config_cluster_give(const struct config_cluster *cluster, json_t *root);
void config_cluster_take(json_t *root, struct config_cluster *ret_cluster);

/* The number that stands for a node's name in what nodes say to each other: 1…65535. */
uint16_t config_cluster_id(const char *name);

#endif
