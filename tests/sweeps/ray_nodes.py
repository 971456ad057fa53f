"""A Ray of three nodes on loopback, in a process of its own: it is told to lose one.

Prints the address; a line on standard input removes the node that was added last, at once and with
all that runs there; the end of standard input ends all.
"""

import sys

from ray.cluster_utils import Cluster

HERE = {"node_ip_address": "127.0.0.1", "include_dashboard": False}
STORE_BYTES = 80 * 2**20


def main() -> None:
    cluster = Cluster()
    cluster.add_node(num_cpus=0, object_store_memory=STORE_BYTES, **HERE)
    nodes = [
        cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES, **HERE) for _ in range(2)
    ]
    print(cluster.address, flush=True)
    if sys.stdin.readline():
        cluster.remove_node(nodes[-1], allow_graceful=False)
        print("removed", flush=True)
        sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()
