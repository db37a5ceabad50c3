//! Opens targets, and keeps open what a reload has not changed.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_connectors::net::Names;
use pointsman_connectors::{Attempt, AttemptError, TargetContext, TargetService, TargetSettings};
use pointsman_schemas::{Class, Name};
use tower::util::BoxCloneSyncService;
use tower::{ServiceExt, service_fn};

/// Which target, and what of the rule file made it: where that is the same after a reload, the
/// target stays open.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub tenant: Name,
    pub name: Name,
    /// Differs where its settings do.
    pub fingerprint: u64,
}

/// The targets that are open.
#[derive(Default)]
pub struct Targets {
    open: Mutex<HashMap<Key, TargetService>>,
    names: Names,
}

impl fmt::Debug for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.open.lock().keys()).finish()
    }
}

impl Targets {
    /// Makes these the open targets, and hands out their services in the order wanted. One that
    /// cannot be opened does not stop the others: it is opened again at each attempt, which is
    /// unavailable until that succeeds.
    pub async fn reload(&self, wanted: Vec<(Key, Box<dyn TargetSettings>)>) -> Vec<TargetService> {
        let mut services = Vec::with_capacity(wanted.len());
        let mut open = HashMap::with_capacity(wanted.len());
        for (key, settings) in wanted {
            let kept = self.open.lock().get(&key).cloned();
            let service = match kept {
                Some(service) => service,
                None => open_or_later(&key, settings.into(), &self.names).await,
            };
            open.insert(key, service.clone());
            services.push(service);
        }
        *self.open.lock() = open;
        services
    }
}

async fn open_or_later(
    key: &Key,
    settings: Arc<dyn TargetSettings>,
    names: &Names,
) -> TargetService {
    // The rule files are the operator's own, and what he wants to call lies on his own machines as
    // often as not.
    let (name, tenant, names) = (key.name.clone(), key.tenant.clone(), names.clone());
    let context = TargetContext {
        name,
        tenant,
        allow_private_addresses: true,
        names,
    };
    match settings.open(context.clone()).await {
        Ok(service) => service,
        Err(error) => {
            tracing::error!(
                target = %key.name, %error,
                "the target cannot be opened; its deliveries wait"
            );
            let opened = Arc::new(tokio::sync::OnceCell::new());
            BoxCloneSyncService::new(service_fn(move |attempt: Attempt| {
                let (settings, opened, context) =
                    (Arc::clone(&settings), Arc::clone(&opened), context.clone());
                async move {
                    let open = async || settings.open(context).await.map(Mutex::new);
                    let service = opened
                        .get_or_try_init(open)
                        .await
                        .map(|service| service.lock().clone());
                    match service {
                        Ok(service) => service.oneshot(attempt).await,
                        Err(error) => Err(AttemptError::new(Class::Unavailable, error.to_string())),
                    }
                }
            }))
        }
    }
}
