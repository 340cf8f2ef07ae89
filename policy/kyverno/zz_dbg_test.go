package kyverno
import ("testing";"os";"sconce.dev/sconce/policy";"sconce.dev/sconce/object")
func TestDbg(t *testing.T){
 b,_:=os.ReadFile("testdata/mutate.yaml")
 all:=read(t,"x",b)
 var docs []*object.Object
 for _,d:=range all { if Handles(d.GroupKind()) {docs=append(docs,d.Object)} }
 ps,_,_:=Read(docs,policy.Options{})
 d:=all[len(all)-1]
 for _,p:=range ps { for _,r:=range p.Evaluate(t.Context(), d.request(nil,&world{}), EvaluateOptions{}) { t.Logf("%+v",r) } 
  for _,r:=range p.Rules{ t.Logf("%s %v %v", r.Name, r.Preconditions, r.Unsupported)}}
}
