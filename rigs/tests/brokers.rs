//! The rigs do what tests ask of them.

mod redis {
    use duplex_rigs::*;

    fn kept_over_a_kill(persistence: Persistence) -> String {
        let mut redis = Redis::start_with(&RedisOptions { persistence, ..RedisOptions::default() });
        assert_eq!(redis.cli(&["SET", "key", "value"]), "OK");
        redis.kill9();
        assert_eq!(redis.cli(&["GET", "key"]), "");
        redis.restart();
        redis.cli(&["GET", "key"])
    }

    #[test]
    fn a_server_keeps_over_its_end_what_it_is_told_to() {
        assert_eq!(kept_over_a_kill(Persistence::None), "");
        assert_eq!(kept_over_a_kill(Persistence::Everything), "value");
    }

    #[test]
    fn a_server_that_is_full_takes_nothing_more() {
        let options = RedisOptions { memory_bytes_max: Some(2 << 20), ..RedisOptions::default() };
        let redis = Redis::start_with(&options);
        redis.cli(&["DEBUG", "POPULATE", "50000"]);
        assert!(redis.cli(&["SET", "key", "value"]).starts_with("OOM"));
    }

    #[test]
    fn a_server_can_be_paused() {
        let mut redis = Redis::start();
        redis.pause();
        let port = redis.port().to_string();
        let mut asked = std::process::Command::new("timeout");
        let asked = asked.args(["0.3", "redis-cli", "-p", &port, "PING"]).output().unwrap();
        assert!(!asked.status.success());
        redis.resume();
        assert_eq!(redis.cli(&["PING"]), "PONG");
    }

    #[test]
    fn sentinels_agree_on_another_master() {
        let mut rig = RedisSentinel::start();
        let first = rig.master_port();
        rig.fail_over();
        let second = rig.master_port();
        assert_ne!(first, second);
        rig.kill_master();
        rig.until_master_is_not(second);
        assert_eq!(rig.master_port(), first);
    }

    #[test]
    fn a_slot_of_a_cluster_can_move_with_its_keys() {
        let mut rig = RedisCluster::start();
        let slot = rig.slot_of("key");
        let owner = rig.owner_of(slot);
        assert_eq!(rig.nodes()[owner].cli(&["SET", "key", "value"]), "OK");
        let other = (owner + 1) % 3;
        assert!(rig.nodes()[other].cli(&["GET", "key"]).starts_with("MOVED"));
        rig.move_slot(slot, other);
        assert_eq!(rig.owner_of(slot), other);
        assert_eq!(rig.nodes()[other].cli(&["GET", "key"]), "value");
    }
}

mod nats {
    use duplex_rigs::*;

    fn info(nats: &Nats) -> String {
        use std::io::{BufRead, BufReader};
        let stream = std::net::TcpStream::connect(("127.0.0.1", nats.port())).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    }

    #[test]
    fn a_server_says_what_it_takes_and_starts_again_where_it_was() {
        let options = NatsOptions { payload_bytes_max: Some(1000), ..NatsOptions::default() };
        let mut nats = Nats::start_with(&options);
        assert!(info(&nats).contains("\"max_payload\":1000"), "{}", info(&nats));
        nats.kill9();
        assert!(std::net::TcpStream::connect(("127.0.0.1", nats.port())).is_err());
        nats.restart();
        nats.restart_empty();
        assert!(info(&nats).contains("\"jetstream\":true"), "{}", info(&nats));
    }

    #[test]
    fn three_servers_have_a_leader_and_another_when_it_is_gone() {
        let mut cluster = NatsCluster::start();
        let first = cluster.leader().unwrap();
        cluster.nodes()[first].kill9();
        eventually("there is another leader", || cluster.leader().is_some_and(|leader| leader != first));
    }
}
