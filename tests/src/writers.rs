//! The processes of one escrow: one with a file, or two with a database.

use crate::process::{Node, Signal, Town, ok};
use serde_json::Value;
use tombola_net::Address;

/// Homes and nodes, in the same order.
#[derive(Debug)]
pub struct Writers {
    names: Vec<&'static str>,
    nodes: Vec<Node>,
}

impl Writers {
    /// One process with a file, in the home that a [`Town`] takes for its escrow.
    #[must_use]
    pub fn with_file(town: &Town) -> Self {
        init(town, "escrow", &[]);
        Self::start(town, vec!["escrow"])
    }

    /// Two processes with a database, the first in the home that a [`Town`] takes for its escrow.
    #[must_use]
    pub fn with_database(town: &Town, address: &str) -> Self {
        init(town, "escrow", &["--store", address]);
        let key = town.arg("escrow/key.pem");
        init(town, "second", &["--store", address, "--writer", "1", "--key", &key]);
        Self::start(town, vec!["escrow", "second"])
    }

    fn start(town: &Town, names: Vec<&'static str>) -> Self {
        let nodes = names.iter().map(|name| run(town, name, "127.0.0.1:0")).collect();
        Self { names, nodes }
    }

    /// The names of their homes.
    #[must_use]
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Their addresses.
    ///
    /// # Panics
    /// If a node printed one that is none.
    #[must_use]
    pub fn addresses(&self) -> Vec<Address> {
        let parse = |node: &Node| node.address().parse();
        let addresses: Result<_, _> = self.nodes.iter().map(parse).collect();
        addresses.unwrap_or_else(|error| panic!("{:?}: {error}", self.nodes))
    }

    /// Kills a process and starts it again at the same address.
    pub fn kill(&mut self, town: &Town, n: usize) {
        let node = self.nodes.remove(n);
        let socket = node.socket();
        node.kill();
        let name = self.names.get(n).copied().unwrap_or_default();
        self.nodes.insert(n, run(town, name, &socket));
    }

    /// Has each process audit the books while it runs.
    ///
    /// # Panics
    /// If money is not conserved, or anything does not follow from the log.
    #[must_use]
    pub fn audit(&self, town: &Town) -> Vec<Value> {
        let audit = |name: &&str| {
            let audit = ok(&["escrow", "audit", "--home", &town.arg(name)]);
            assert_eq!(
                (audit.get("conserved"), audit.get("findings")),
                (Some(&Value::Bool(true)), Some(&Value::Array(Vec::new()))),
                "{audit}"
            );
            audit
        };
        self.names.iter().map(audit).collect()
    }

    /// Ends them as an operator does.
    ///
    /// # Panics
    /// If one ends with another exit code than 0.
    pub fn end(self) {
        for node in self.nodes {
            assert_eq!(node.end(Signal::TERM), 0);
        }
    }
}

/// Makes a home of an escrow.
pub fn init(town: &Town, name: &str, more: &[&str]) {
    let home = town.arg(name);
    ok(&[&["escrow", "init", "--home", &home, "--listen", "127.0.0.1:0"], more].concat());
}

fn run(town: &Town, name: &str, listen: &str) -> Node {
    Node::start(&["escrow", "run", "--home", &town.arg(name), "--listen", listen])
}
