//! How it is found out how a container is, and what is done at the turns of its life.

use super::IntOrText;

objects! {
    /// A check.
    Probe {
        /// A command in the container.
        exec: Option<ExecAction>,
        /// A request.
        http_get: Option<HttpAction>,
        /// A connection.
        tcp_socket: Option<TcpAction>,
        /// Seconds until the first.
        initial_delay_seconds: i64,
        /// Seconds after which it has failed; 0: 1.
        timeout_seconds: i64,
        /// Seconds from one to the next; 0: 10.
        period_seconds: i64,
        /// So many good ones in a row are needed; 0: 1.
        success_threshold: i64,
        /// So many bad ones in a row are needed; 0: 3.
        failure_threshold: i64,
        /// Instead of the pod's.
        termination_grace_period_seconds: Option<i64>,
    }

    /// A command in the container.
    ExecAction {
        /// Program and arguments, without a shell.
        command: Vec<String>,
    }

    /// A request by HTTP.
    HttpAction {
        /// The path; empty: `/`.
        path: String,
        /// The port or its name.
        port: IntOrText,
        /// The host; empty: the container itself.
        host: String,
        /// `HTTP`, `HTTPS`.
        scheme: String,
        /// Headers.
        http_headers: Vec<HttpHeader>,
    }

    /// A header of a request.
    HttpHeader {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    }

    /// A connection by TCP.
    TcpAction {
        /// The port or its name.
        port: IntOrText,
        /// The host; empty: the container itself.
        host: String,
    }

    /// Seconds of nothing.
    SleepAction {
        /// How many.
        seconds: i64,
    }

    /// What is done at a turn of a container's life.
    Action {
        /// A command in the container.
        exec: Option<ExecAction>,
        /// A request.
        http_get: Option<HttpAction>,
        /// A connection (of no effect).
        tcp_socket: Option<TcpAction>,
        /// Seconds of nothing.
        sleep: Option<SleepAction>,
    }

    /// What is done at the turns of a container's life.
    Lifecycle {
        /// After its start.
        post_start: Option<Action>,
        /// Before it is asked to end.
        pre_stop: Option<Action>,
        /// How it is asked to end.
        stop_signal: String,
    }
}
