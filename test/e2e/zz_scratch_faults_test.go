package e2e
import ("testing"; metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"; corev1 "k8s.io/api/core/v1"; "sconce.dev/sconce/test/controlplane")
func TestScratchFaults(t *testing.T) {
	c := controlplane.Start(t, controlplane.Options{})
	p := c.Client(t).CoreV1().Pods("default")
	p.Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: unprivileged}, metav1.CreateOptions{})
	c.Client(t).CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, metav1.CreateOptions{})
	c.Client(t).CoreV1().Services("default").Create(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}, ClusterIP: "None"}}, metav1.CreateOptions{})
	c.RefuseWrites(t)
	t.Log(p.Delete(t.Context(), "a", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}))
	t.Log(c.Client(t).CoreV1().ConfigMaps("default").Delete(t.Context(), "a", metav1.DeleteOptions{}))
	t.Log(c.Client(t).CoreV1().Services("default").Delete(t.Context(), "a", metav1.DeleteOptions{}))
}
