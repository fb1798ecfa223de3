use std::sync::Arc;

use duplex_core::{ChannelName, ErrorCode, Grants, Identity, Json, NameError, Pattern, Refusal, UserId};

use super::members::{Members, wrong};
use super::token::unauthorized;
use super::{AuthOptions, Expiry};

/// How far the clock of whoever makes tokens may be off, milliseconds.
const LEEWAY_MS: u64 = 10_000;
/// Longest `info`, bytes of JSON. Everybody in a channel gets it.
const INFO_BYTES_MAX: usize = 4 * 1024;
/// Most channels that a client is subscribed to as it connects.
const CHANNELS_MAX: usize = 128;
/// Most patterns for one action.
const PATTERNS_MAX: usize = 64;

/// What a token says, after it was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Who its owner is.
    pub identity: Identity,
}

/// What every token must say.
pub(super) struct Demands {
    issuer: Option<String>,
    audience: Option<String>,
    expiry: Expiry,
}

impl Demands {
    pub fn of(options: &AuthOptions) -> Self {
        let AuthOptions { issuer, audience, expiry, .. } = options;
        Self { issuer: issuer.clone(), audience: audience.clone(), expiry: *expiry }
    }

    /// Reads what a token for connecting says.
    pub fn connection(&self, claims: &Members<'_>, now_ms: u64) -> Result<Claims, Refusal> {
        if claims.raw("channel").is_some() {
            return Err(unauthorized(
                "the token is for subscribing, as it has `channel`; connect with one that has none",
            ));
        }
        let common = self.common(claims, now_ms)?;
        let identity = Identity {
            info: info(claims)?,
            channels: names("channels", claims, CHANNELS_MAX, ChannelName::parse)?,
            grants: grants(claims)?,
            ..common
        };
        Ok(Claims { identity })
    }

    /// Reads what a token for subscribing to `channel` says, shown by the client that is `identity`.
    pub fn subscription(
        &self,
        claims: &Members<'_>,
        identity: &Identity,
        channel: &ChannelName,
        now_ms: u64,
    ) -> Result<Claims, Refusal> {
        let Some(name) = claims.text("channel")? else {
            return Err(unauthorized("the token is for connecting; subscribe with one that has `channel`"));
        };
        let common = self.common(claims, now_ms)?;
        if *name != **channel {
            return Err(denied("the token is for another channel; get one for this channel"));
        }
        if common.user != identity.user {
            return Err(denied("the token is for another user; get one for the user that is connected"));
        }
        Ok(Claims { identity: common })
    }

    /// What both kinds of tokens say: whose they are and when they hold.
    fn common(&self, claims: &Members<'_>, now_ms: u64) -> Result<Identity, Refusal> {
        self.check_parties(claims)?;
        let (issued_ms, expires_ms) = self.check_times(claims, now_ms)?;
        let token = claims.text("jti")?.map(Arc::from);
        Ok(Identity { user: Some(user(claims)?), expires_ms, issued_ms, token, ..Identity::default() })
    }

    /// Whose token it is, and for whom (RFC 7519, 4.1.1 and 4.1.3).
    fn check_parties(&self, claims: &Members<'_>) -> Result<(), Refusal> {
        let issuer = claims.text("iss")?;
        if self.issuer.is_some() && self.issuer != issuer {
            return Err(wrong("iss", "is not the issuer that is wanted here"));
        }
        let audience = claims.texts("aud")?.unwrap_or_default();
        match &self.audience {
            Some(wanted) if !audience.contains(wanted) => Err(wrong("aud", "does not name this server")),
            _ => Ok(()),
        }
    }

    /// When it was issued and when it expires.
    fn check_times(&self, claims: &Members<'_>, now_ms: u64) -> Result<(Option<u64>, Option<u64>), Refusal> {
        let (expires, begins, issued) =
            (claims.time_ms("exp")?, claims.time_ms("nbf")?, claims.time_ms("iat")?);
        if expires.is_none() && self.expiry == Expiry::Required {
            return Err(wrong("exp", "is missing"));
        }
        let latest = now_ms.saturating_add(LEEWAY_MS);
        if begins.is_some_and(|begins| begins > latest) {
            return Err(unauthorized(
                "the token is not valid yet (`nbf`); wait, or set the clock of its maker",
            ));
        }
        // What is issued in the future would survive that its user is revoked.
        if issued.is_some_and(|issued| issued > latest) {
            return Err(unauthorized("the token's `iat` is in the future; set the clock of its maker"));
        }
        if expires.is_some_and(|expires| now_ms >= expires.saturating_add(LEEWAY_MS)) {
            return Err(Refusal::new(ErrorCode::TokenExpired, "the token is expired; get a new one"));
        }
        Ok((issued, expires))
    }
}

fn user(claims: &Members<'_>) -> Result<UserId, Refusal> {
    let Some(user) = claims.text("sub")? else { return Err(wrong("sub", "is missing")) };
    UserId::parse(&user).map_err(|error| wrong("sub", error))
}

fn info(claims: &Members<'_>) -> Result<Option<Json>, Refusal> {
    let Some(raw) = claims.raw("info") else { return Ok(None) };
    let bytes = raw.get().len();
    if bytes > INFO_BYTES_MAX {
        return Err(wrong("info", format_args!("has {bytes} bytes; at most {INFO_BYTES_MAX} are allowed")));
    }
    Json::check(raw).map(Some).map_err(|error| wrong("info", error))
}

fn grants(claims: &Members<'_>) -> Result<Grants, Refusal> {
    let Some(allow) = claims.object("allow")? else { return Ok(Grants::default()) };
    let patterns = |action| names(action, &allow, PATTERNS_MAX, Pattern::parse);
    Ok(Grants {
        subscribe: patterns("subscribe")?,
        publish: patterns("publish")?,
        presence: patterns("presence")?,
        history: patterns("history")?,
    })
}

fn names<T>(
    claim: &str,
    claims: &Members<'_>,
    max: usize,
    parse: fn(&str) -> Result<T, NameError>,
) -> Result<Vec<T>, Refusal> {
    let names: Vec<String> = claims.array(claim, max)?;
    names.iter().map(|name| parse(name).map_err(|error| wrong(claim, error))).collect()
}

fn denied(message: &str) -> Refusal {
    Refusal::new(ErrorCode::PermissionDenied, message)
}

#[cfg(test)]
mod tests {
    use duplex_core::Action;

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn demands(expiry: Expiry) -> Demands {
        Demands { issuer: None, audience: None, expiry }
    }

    fn read(demands: &Demands, claims: &str) -> Result<Identity, Refusal> {
        let claims = Members::parse(claims.as_bytes()).expect("the grammar is right");
        demands.connection(&claims, NOW * 1_000).map(|claims| claims.identity)
    }

    fn outcome(demands: &Demands, claims: &str) -> &'static str {
        match read(demands, claims).map_err(|refusal| refusal.code) {
            Ok(_) => "valid",
            Err(ErrorCode::TokenExpired) => "expired",
            Err(ErrorCode::Unauthorized) => "invalid",
            Err(_) => "another code",
        }
    }

    #[test]
    fn an_identity_is_read_from_claims() {
        let identity = read(
            &demands(Expiry::Required),
            r#"{"sub":"alice","exp":1700000060.9,"iat":1699999999,"jti":"t1","info":{"n" : 1},"channels":["news","dm:#alice"],
                "allow":{"subscribe":["chat:*"],"publish":["chat:1"],"presence":["*"],"history":[],"fly":7},"other":{"x":[]}}"#,
        )
        .unwrap();
        assert_eq!(identity.user.as_deref(), Some("alice"));
        assert_eq!(
            (identity.expires_ms, identity.issued_ms),
            (Some(1_700_000_060_000), Some(1_699_999_999_000))
        );
        assert_eq!(identity.token.as_deref(), Some("t1"));
        assert_eq!(identity.info.as_ref().map(Json::as_str), Some(r#"{"n" : 1}"#));
        assert_eq!(identity.channels.iter().map(|c| &**c).collect::<Vec<_>>(), ["news", "dm:#alice"]);
        let chat = ChannelName::parse("chat:2").unwrap();
        assert!(identity.allows(Action::Subscribe, &chat) && identity.allows(Action::Presence, &chat));
        assert!(!identity.allows(Action::Publish, &chat) && !identity.allows(Action::History, &chat));
    }

    #[test]
    fn a_token_holds_from_nbf_to_exp_with_ten_seconds_of_leeway() {
        for (times, wanted) in [
            (r#""exp":1700000001"#, "valid"),
            (r#""exp":1700000000"#, "valid"),
            (r#""exp":1699999991"#, "valid"),
            (r#""exp":1699999990"#, "expired"),
            (r#""exp":1699999940"#, "expired"),
            (r#""exp":0"#, "expired"),
            (r#""exp":9007199254740991"#, "valid"),
            (r#""exp":1700000060,"nbf":1700000000"#, "valid"),
            (r#""exp":1700000060,"nbf":1700000010"#, "valid"),
            (r#""exp":1700000060,"nbf":1700000011"#, "invalid"),
            (r#""exp":1700000060,"nbf":1700000060"#, "invalid"),
            (r#""exp":1700000060,"iat":1700000010"#, "valid"),
            (r#""exp":1700000060,"iat":1700000011"#, "invalid"),
            (r#""exp":1700000060,"iat":1700000060"#, "invalid"),
            (r#""nbf":1"#, "invalid"),
        ] {
            let claims = format!(r#"{{"sub":"a",{times}}}"#);
            assert_eq!(outcome(&demands(Expiry::Required), &claims), wanted, "{times}");
        }
    }

    #[test]
    fn a_time_that_is_none_never_counts_as_absent() {
        for time in ["\"1700000060\"", "-1", "1e300", "null", "true", "[]", "{}", "9007199254740992"] {
            for claim in ["exp", "nbf", "iat"] {
                let claims = format!(r#"{{"sub":"a","{claim}":{time}}}"#);
                let refusal = read(&demands(Expiry::Optional), &claims).unwrap_err();
                assert_eq!(refusal.code, ErrorCode::Unauthorized, "{claims}");
                assert!(refusal.message.contains(claim), "{claims}: {}", refusal.message);
            }
        }
        assert_eq!(outcome(&demands(Expiry::Optional), r#"{"sub":"a"}"#), "valid");
        assert_eq!(outcome(&demands(Expiry::Required), r#"{"sub":"a"}"#), "invalid");
    }

    #[test]
    fn issuer_and_audience_are_those_wanted() {
        let demands =
            Demands { issuer: Some("me".into()), audience: Some("duplex".into()), expiry: Expiry::Optional };
        for (claims, wanted) in [
            (r#"{"sub":"a","iss":"me","aud":"duplex"}"#, "valid"),
            (r#"{"sub":"a","iss":"me","aud":["x","duplex"]}"#, "valid"),
            (r#"{"sub":"a","iss":"Me","aud":"duplex"}"#, "invalid"),
            (r#"{"sub":"a","iss":["me"],"aud":"duplex"}"#, "invalid"),
            (r#"{"sub":"a","aud":"duplex"}"#, "invalid"),
            (r#"{"sub":"a","iss":"me","aud":"duplex2"}"#, "invalid"),
            (r#"{"sub":"a","iss":"me","aud":[]}"#, "invalid"),
            (r#"{"sub":"a","iss":"me","aud":[["duplex"]]}"#, "invalid"),
            (r#"{"sub":"a","iss":"me","aud":null}"#, "invalid"),
            (r#"{"sub":"a","iss":"me"}"#, "invalid"),
        ] {
            assert_eq!(outcome(&demands, claims), wanted, "{claims}");
        }
    }

    #[test]
    fn a_claim_of_the_wrong_type_is_refused_by_name() {
        let long = |count: usize| format!(r#"["{}"]"#, vec!["c"; count].join(r#"",""#));
        let deep = "[".repeat(65) + &"]".repeat(65);
        for (name, value) in [
            ("sub", "7".to_owned()),
            ("sub", "null".into()),
            ("sub", r#""""#.into()),
            ("sub", format!("\"{}\"", "u".repeat(256))),
            ("iss", "{}".into()),
            ("aud", "1".into()),
            ("jti", "1".into()),
            ("info", format!("\"{}\"", "i".repeat(4_095))),
            ("info", deep),
            ("info", r#""\ud800""#.into()),
            ("channels", r#""news""#.into()),
            ("channels", "[1]".into()),
            ("channels", "null".into()),
            ("channels", r#"[":x"]"#.into()),
            ("channels", long(129)),
            ("allow", "[]".into()),
            ("allow", "null".into()),
        ] {
            let sub = if name == "sub" { "" } else { r#""sub":"a","# };
            let refusal =
                read(&demands(Expiry::Optional), &format!(r#"{{{sub}"{name}":{value}}}"#)).unwrap_err();
            assert_eq!(refusal.code, ErrorCode::Unauthorized);
            assert!(refusal.message.contains(&format!("`{name}`")), "{name} {value}: {}", refusal.message);
        }
        for action in ["subscribe", "publish", "presence", "history"] {
            for value in [r#""*""#, "{}", "null", "[1]", r#"[""]"#, &long(65)] {
                let claims = format!(r#"{{"sub":"a","allow":{{"{action}":{value}}}}}"#);
                let refusal = read(&demands(Expiry::Optional), &claims).unwrap_err();
                assert!(refusal.message.contains(&format!("`{action}`")), "{}", refusal.message);
            }
        }
        assert_eq!(outcome(&demands(Expiry::Optional), "{}"), "invalid");
        let most = format!(r#"{{"sub":"a","channels":{},"allow":{{"publish":{}}}}}"#, long(128), long(64));
        assert_eq!(outcome(&demands(Expiry::Optional), &most), "valid");
    }

    #[test]
    fn a_subscription_token_is_for_one_user_and_one_channel() {
        let alice = Identity { user: Some(UserId::parse("alice").unwrap()), ..Identity::default() };
        let news = ChannelName::parse("news").unwrap();
        for (claims, identity, wanted) in [
            (r#"{"sub":"alice","channel":"news"}"#, &alice, Ok(())),
            (r#"{"sub":"alice","channel":"News"}"#, &alice, Err(ErrorCode::PermissionDenied)),
            (r#"{"sub":"bob","channel":"news"}"#, &alice, Err(ErrorCode::PermissionDenied)),
            (r#"{"sub":"alice","channel":"news"}"#, &Identity::default(), Err(ErrorCode::PermissionDenied)),
            (r#"{"channel":"news"}"#, &Identity::default(), Err(ErrorCode::Unauthorized)),
            (r#"{"sub":"alice"}"#, &alice, Err(ErrorCode::Unauthorized)),
            (r#"{"sub":"alice","channels":["news"]}"#, &alice, Err(ErrorCode::Unauthorized)),
            (r#"{"sub":"alice","channel":["news"]}"#, &alice, Err(ErrorCode::Unauthorized)),
            (r#"{"sub":"alice","channel":null}"#, &alice, Err(ErrorCode::Unauthorized)),
            (r#"{"sub":"alice","channel":"news","exp":1}"#, &alice, Err(ErrorCode::TokenExpired)),
        ] {
            let members = Members::parse(claims.as_bytes()).unwrap();
            let found = demands(Expiry::Optional).subscription(&members, identity, &news, NOW * 1_000);
            assert_eq!(found.map(|_| ()).map_err(|refusal| refusal.code), wanted, "{claims}");
        }
        assert_eq!(outcome(&demands(Expiry::Optional), r#"{"sub":"alice","channel":"news"}"#), "invalid");
        assert_eq!(outcome(&demands(Expiry::Optional), r#"{"sub":"alice","channel":null}"#), "invalid");
    }
}
