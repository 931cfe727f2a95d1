//! Which kinds have no namespace.

/// Whether objects of this kind stand outside namespaces. Kinds that are not known are taken to be namespaced, as most
/// are.
pub(crate) fn is_cluster_scoped(group: &str, kind: &str) -> bool {
    match group {
        "" => matches!(kind, "Namespace" | "Node" | "PersistentVolume" | "ComponentStatus"),
        "gateway.networking.k8s.io" | "gateway.networking.x-k8s.io" => matches!(kind, "GatewayClass" | "XMesh"),
        "rbac.authorization.k8s.io" => matches!(kind, "ClusterRole" | "ClusterRoleBinding"),
        "apiextensions.k8s.io" => kind == "CustomResourceDefinition",
        "apiregistration.k8s.io" => kind == "APIService",
        "admissionregistration.k8s.io"
        | "flowcontrol.apiserver.k8s.io"
        | "storagemigration.k8s.io"
        | "internal.apiserver.k8s.io" => true,
        "scheduling.k8s.io" => kind == "PriorityClass",
        "networking.k8s.io" => matches!(kind, "IngressClass" | "IPAddress" | "ServiceCIDR"),
        "node.k8s.io" => kind == "RuntimeClass",
        "storage.k8s.io" => kind != "CSIStorageCapacity",
        "certificates.k8s.io" => matches!(kind, "CertificateSigningRequest" | "ClusterTrustBundle"),
        "resource.k8s.io" => matches!(kind, "DeviceClass" | "ResourceSlice" | "DeviceTaintRule"),
        "policy.networking.k8s.io" => true,
        "cert-manager.io" => kind == "ClusterIssuer",
        "snapshot.storage.k8s.io" => matches!(kind, "VolumeSnapshotClass" | "VolumeSnapshotContent"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_no_namespace_and_routes_do() {
        assert!(is_cluster_scoped("gateway.networking.k8s.io", "GatewayClass"));
        assert!(is_cluster_scoped("", "Namespace"));
        assert!(is_cluster_scoped("apiextensions.k8s.io", "CustomResourceDefinition"));
        assert!(!is_cluster_scoped("gateway.networking.k8s.io", "HTTPRoute"));
        assert!(!is_cluster_scoped("", "Service"));
        assert!(!is_cluster_scoped("tidegate.dev", "GatewayParameters"));
        assert!(!is_cluster_scoped("tidegate.dev", "InferenceRollout"));
    }
}
