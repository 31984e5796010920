//! Three primaries of a cluster, each with a replica.

use anyhow::{Context as _, ensure};

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
        cluster.is_whole().await?;
        Ok(cluster)
    }

    /// Waits until every slot is served, and every primary has a replica that follows.
    async fn is_whole(&self) -> anyhow::Result<()> {
        let is_whole = |node: &TestRedis| {
            let info = node.cli(&["CLUSTER", "INFO"])? + &node.cli(&["INFO", "replication"])?;
            let follows = info.contains("state=online") || info.contains("master_link_status:up");
            anyhow::Ok(info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:6") && follows)
        };
        let whole = async || self.nodes.iter().map(is_whole).all(|whole| matches!(whole, Ok(true))).then_some(());
        eventually("the cluster", whole).await
    }

    /// The address of the store.
    pub(super) fn url(&self) -> String {
        let nodes: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis+cluster://:{REDIS_PASSWORD}@{}", nodes.join(","))
    }

    /// Kills one primary after the other, each once its replica has everything; it comes back as the replica of the one that
    /// took over.
    pub(super) async fn kill_every_primary(&mut self) -> anyhow::Result<()> {
        let role = |node: &TestRedis, role: &str| Some(node.cli(&["ROLE"]).ok()?.starts_with(role));
        let primaries: Vec<usize> =
            (0..self.nodes.len()).filter(|at| role(&self.nodes[*at], "master") == Some(true)).collect();
        ensure!(primaries.len() == 3, "the cluster has {} primaries", primaries.len());
        for at in primaries {
            self.nodes[at].kill();
            let others = || self.nodes.iter().enumerate().filter(|(other, _)| *other != at);
            let took_over = async || {
                let serving = others().filter(|(_, node)| role(node, "master") == Some(true)).count();
                (serving == 3).then_some(())
            };
            eventually("a replica to take over", took_over).await?;
            self.nodes[at].restart().await?;
            self.is_whole().await?;
        }
        Ok(())
    }
}
