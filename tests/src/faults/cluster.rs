//! Three primaries of a cluster, each with a replica.

use anyhow::Context as _;

use crate::{REDIS_PASSWORD, TestRedis, eventually};

pub(super) struct Cluster {
    nodes: Vec<TestRedis>,
}

impl Cluster {
    /// Starts all of them, and waits until every slot is served and every replica follows.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let mut nodes = Vec::new();
        for _ in 0..6 {
            nodes.push(TestRedis::start_with(&["--cluster-enabled", "yes", "--cluster-node-timeout", "1500"]).await?);
        }
        let addresses: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let options = ["--cluster-replicas", "1", "--cluster-yes"];
        let first = nodes.first().context("there is no node")?;
        first.cli(&[&["--cluster", "create"], addresses.as_slice(), &options].concat())?;
        let cluster = Self { nodes };
        let is_whole = |node: &TestRedis| {
            let info = node.cli(&["CLUSTER", "INFO"])? + &node.cli(&["INFO", "replication"])?;
            let follows = info.contains("role:master") || info.contains("master_link_status:up");
            anyhow::Ok(info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:6") && follows)
        };
        let whole = async || cluster.nodes.iter().map(is_whole).all(|whole| matches!(whole, Ok(true))).then_some(());
        eventually("the cluster", whole).await?;
        Ok(cluster)
    }

    /// The address of the store.
    pub(super) fn url(&self) -> String {
        let nodes: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis+cluster://:{REDIS_PASSWORD}@{}", nodes.join(","))
    }

    /// Lets every replica take over its slots as an operator does (`CLUSTER FAILOVER`: nothing is lost), then kills the
    /// nodes that were primaries.
    pub(super) async fn fail_over(&mut self) -> anyhow::Result<()> {
        let is_primary = |node: &TestRedis| Ok::<_, anyhow::Error>(node.cli(&["ROLE"])?.starts_with("master"));
        let mut before = Vec::new();
        for node in &self.nodes {
            before.push(is_primary(node)?);
        }
        for (node, was_primary) in self.nodes.iter().zip(&before) {
            if !was_primary {
                node.cli(&["CLUSTER", "FAILOVER"])?;
                let took_over = async || is_primary(node).ok()?.then_some(());
                eventually("a replica to take over", took_over).await?;
            }
        }
        for (node, was_primary) in self.nodes.iter_mut().zip(before) {
            if was_primary {
                node.kill();
            }
        }
        Ok(())
    }
}
